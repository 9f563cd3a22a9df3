"""The report on a model: one HTML page that needs nothing else, to read, keep and send.

Everything is computed from scores, labels and thresholds; what the caller adds is the
model's description, its training history and what to compare it with.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from irmas_dist import storage
from irmas_dist.evaluation import figures, metrics
from irmas_dist.evaluation.scores import Scores
from irmas_dist.evaluation.thresholds import decide

COLUMNS = {
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "micro_precision": "Micro precision",
    "micro_recall": "Micro recall",
    "lrap": "LRAP",
    "map": "mAP",
    "subset_accuracy": "Subset accuracy",
    "label_accuracy": "Label accuracy",
}
"""Columns of the comparison: key of `metrics.evaluate` and heading."""

CURVES = {
    "loss": "Loss",
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "micro_precision": "Micro precision",
    "micro_recall": "Micro recall",
    "label_accuracy": "Label accuracy",
}
"""Training curves: name in the history, less its ``train_`` or ``val_``, and heading."""

WORST_CLIPS = 10
"""How many of the clips with the most wrong decisions are listed."""

_LONG_LIST = 12


def write_report(
    location: str | os.PathLike[str],
    *,
    title: str,
    scores: Scores,
    thresholds: npt.ArrayLike,
    model: Mapping[str, Any],
    history: Sequence[dict[str, Any]],
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    thresholds_from: str = "validation clips",
) -> None:
    """Write the report as one self-contained HTML file.

    Args:
        location: Path or URL of the page.
        title: Heading of the page.
        scores: The clips that the results are for.
        thresholds: Decision thresholds, shape (instruments,), or one number for all.
        model: The content of ``model.json``, listed at the end.
        history: One row per epoch: ``epoch``, and metrics as ``train_<name>`` and
            ``val_<name>``, of which those in `CURVES` are drawn.
        baselines: Name to metrics (as from `metrics.evaluate`, or some of them) of what the
            model is compared with, all on the same clips.
        thresholds_from: The clips that the thresholds were chosen on, in words.

    Raises:
        ValueError: The scores and labels do not belong together; see `metrics.validate`.
        IrmasError: The page cannot be written.
    """
    thresholds = np.broadcast_to(
        np.asarray(thresholds, dtype=np.float32), (len(scores.vocabulary),)
    )
    decisions = decide(scores.scores, thresholds)
    results = metrics.evaluate(scores.labels, scores.scores, thresholds)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("irmas_dist.evaluation", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html").render(
        title=title,
        results=results,
        clips=len(scores.clip_ids),
        groups=len(set(scores.groups)),
        parts=sorted(set(scores.parts)),
        per_clip=float(scores.labels.sum(axis=1).mean()),
        one_threshold=len(set(thresholds.tolist())) == 1,
        thresholds_from=thresholds_from,
        columns=COLUMNS,
        rows=_comparison(results, baselines or {}),
        silence=1 - float(scores.labels.mean()),
        instruments=_instruments(scores, thresholds),
        curves=_training_curves(history),
        by_count=_by_count(scores.labels, decisions),
        worst=_worst_clips(scores, decisions),
        facts=_flat(model),
    )
    with storage.write_whole(location) as stream:
        stream.write(page.encode())


def _comparison(
    results: dict[str, float], baselines: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Return one row per model, ours first, with the best value of each column marked."""
    everyone = {"This model": results, **baselines}
    best = {
        column: max(row[column] for row in everyone.values() if column in row) for column in COLUMNS
    }
    return [
        {
            "name": name,
            "values": [
                {"value": row.get(column), "best": row.get(column) == best[column]}
                for column in COLUMNS
            ],
        }
        for name, row in everyone.items()
    ]


def _instruments(scores: Scores, thresholds: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return the metrics of each instrument, each with its precision-recall curve."""
    decisions = decide(scores.scores, thresholds)
    rows = metrics.per_instrument(scores.labels, scores.scores, decisions, scores.vocabulary)
    return [
        {
            **row,
            "threshold": float(thresholds[i]),
            "never": not bool(decide(np.ones(1), thresholds[i])),
            "curve": Markup(
                figures.precision_recall_curve(
                    scores.labels[:, i],
                    scores.scores[:, i],
                    float(thresholds[i]),
                    f"Precision and recall of {row['name']}",
                )
            ),
        }
        for i, row in enumerate(rows)
    ]


def _training_curves(history: Sequence[dict[str, Any]]) -> dict[str, Markup]:
    """Return heading → figure for whatever the history knows."""
    curves = {
        heading: figures.training_curve(history, metric, f"{heading} over the epochs")
        for metric, heading in CURVES.items()
    }
    return {heading: Markup(curve) for heading, curve in curves.items() if curve is not None}


def _by_count(labels: npt.NDArray[np.uint8], decisions: npt.NDArray[np.uint8]) -> Markup:
    """Draw micro F1 of the clips with one instrument, with two, and so on."""
    per_clip = labels.sum(axis=1)
    names, values = [], []
    for count in np.unique(per_clip):
        chosen = per_clip == count
        values.append(metrics.precision_recall_f1(labels[chosen], decisions[chosen], "micro")[2])
        clips = np.count_nonzero(chosen)
        names.append(f"{count}\n{clips:,} {'clip' if clips == 1 else 'clips'}")
    return Markup(
        figures.bars(
            names,
            values,
            "instruments in the clip",
            "Micro F1 by number of instruments in the clip",
        )
    )


def _worst_clips(scores: Scores, decisions: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return the clips with the most wrong decisions, worst first."""
    wrong = (scores.labels != decisions).sum(axis=1)
    order = sorted(range(len(wrong)), key=lambda clip: (-wrong[clip], scores.clip_ids[clip]))

    def names(present: npt.NDArray[np.uint8]) -> list[str]:
        return [scores.vocabulary.name(code) for code in scores.vocabulary.decode(present)]

    return [
        {
            "clip": scores.clip_ids[clip],
            "right": names(scores.labels[clip] & decisions[clip]),
            "missed": names(scores.labels[clip] & (1 - decisions[clip])),
            "wrong": names((1 - scores.labels[clip]) & decisions[clip]),
        }
        for clip in order[:WORST_CLIPS]
        if wrong[clip]
    ]


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return nested settings as pairs of dotted name and value; long lists are summed up."""
    if isinstance(value, Mapping) and value:
        return [
            pair
            for key, inner in value.items()
            for pair in _flat(inner, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, list) and len(value) > _LONG_LIST:
        if all(isinstance(item, int | float) for item in value):
            text = f"{len(value)} numbers from {min(value):.4g} to {max(value):.4g}"
        else:
            text = f"{len(value)} entries"
        return [(name, text)]
    return [(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]

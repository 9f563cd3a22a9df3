"""The report on a model: one HTML page that needs nothing else, to read, keep and send.

Everything is computed from scores, labels and thresholds; what the caller adds is the
model's description, its training history and what to compare it with.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from irmas_dist import storage
from irmas_dist.corpus.audio_files import find_files
from irmas_dist.corpus.irmas import TEST_EXCERPTS
from irmas_dist.corpus.names import parse_training_name
from irmas_dist.evaluation import metrics
from irmas_dist.evaluation.arrays import Decisions
from irmas_dist.evaluation.baselines import PUBLISHED, protocol_of
from irmas_dist.evaluation.calibration import reliability
from irmas_dist.evaluation.confusion import confusion
from irmas_dist.evaluation.evaluate import Evaluation
from irmas_dist.evaluation.protocols import MEANING, Protocol, Result
from irmas_dist.evaluation.scores import Scores
from irmas_dist.inference.evaluate import evaluate_model_scores
from irmas_dist.instruments import IRMAS
from irmas_dist.reports import figures
from irmas_dist.reports.audio_player import embedded
from irmas_dist.reports.templates import render
from irmas_dist.training.model_directory import read_description

COLUMNS = {
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "lrap": "LRAP",
    "map": "mAP",
    "subset_accuracy": "Subset accuracy",
    "ece": "Calibration error",
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


def write_model_page(
    location: str | os.PathLike[str],
    *,
    title: str,
    scores: Scores,
    results: Mapping[Protocol, Result],
    thresholds: npt.NDArray[np.float32] | None,
    thresholds_from: str = "",
    model: Mapping[str, Any] | None = None,
    history: Sequence[dict[str, Any]] = (),
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    genres: Sequence[str | None] | None = None,
    player: Callable[[str], str | None] | None = None,
) -> None:
    """Write the report as one self-contained HTML file.

    Args:
        location: Path or URL of the page.
        title: Heading of the page.
        scores: The clips that the results are for.
        results: As from `protocols.apply_protocols`; the first is the headline, and what is
            shown of instruments and clips is by its decisions.
        thresholds: Those of the protocol ``validation``, shape (instruments,), if there are any.
        thresholds_from: The clips that they were chosen on, in words.
        model: The content of ``model.json``, listed at the end.
        history: One row per epoch: ``epoch``, and metrics as ``train_<name>`` and
            ``val_<name>``, of which those in `CURVES` are drawn.
        baselines: Name to metrics (as from `metrics.evaluate`, or some of them) of what the
            model is compared with, all on the same clips.
        genres: Of each clip, None where it is not known.
        player: Returns a clip's audio as a ``data:`` URL, or None, by its ``clip_id``.

    Raises:
        IrmasError: The page cannot be written.
    """
    headline = next(iter(results.values()))
    decisions = headline.decisions
    shown = thresholds if headline.protocol == "validation" else None
    page = render(
        "model_page.html",
        title=title,
        headline=headline,
        clips=len(scores.clip_ids),
        groups=len(set(scores.groups)),
        parts=sorted(set(scores.parts)),
        per_clip=float(scores.labels.sum(axis=1).mean()),
        one_threshold=shown is not None and len(set(shown.tolist())) == 1,
        thresholds_from=thresholds_from if headline.protocol == "validation" else "",
        meaning=MEANING,
        columns=COLUMNS,
        rows=_comparison(scores, results, baselines or {}),
        silence=1 - float(scores.labels.mean()),
        instruments=_instruments(scores, headline, shown),
        confusion=_confusion(scores, decisions),
        curves=_training_curves(history),
        by_count=_by_count(scores.labels, decisions),
        by_genre=_by_genre(scores.labels, decisions, genres),
        worst=_worst_clips(scores, decisions, player),
        facts=_flat(model or {}),
    )
    with storage.write_atomically(location) as stream:
        stream.write(page.encode())


def _comparison(
    scores: Scores,
    results: Mapping[Protocol, Result],
    baselines: Mapping[str, Mapping[str, float]],
) -> list[dict[str, Any]]:
    """Return one row per protocol, baseline and, on IRMAS's test excerpts, published result."""
    rows: list[tuple[str, str, Mapping[str, float | None]]] = [
        ("These scores", protocol, result.metrics) for protocol, result in results.items()
    ]
    rows += [(name, protocol_of(name), values) for name, values in baselines.items()]
    if len(scores.clip_ids) == TEST_EXCERPTS and scores.vocabulary == IRMAS:
        rows += [
            (
                work.work,
                work.protocol or "not stated",
                {"micro_f1": work.micro_f1, "macro_f1": work.macro_f1, "lrap": work.lrap},
            )
            for work in PUBLISHED
        ]
    return [
        {"name": name, "protocol": protocol, "figures": [values.get(key) for key in COLUMNS]}
        for name, protocol, values in rows
    ]


def _instruments(
    scores: Scores, result: Result, thresholds: npt.NDArray[np.float32] | None
) -> list[dict[str, Any]]:
    """Return the metrics of each instrument, with its curves."""
    labels, decisions = scores.labels, result.decisions
    rows = metrics.per_instrument(labels, scores.scores, decisions, scores.vocabulary)
    bins = reliability(labels, scores.scores)
    return [
        {
            **row,
            "interval": result.instrument_intervals[i],
            "threshold": None if thresholds is None else float(thresholds[i]),
            "never": not decisions[:, i].any(),
            "curve": Markup(
                figures.precision_recall_curve(
                    labels[:, i],
                    scores.scores[:, i],
                    decisions[:, i],
                    f"Precision and recall of {row['name']}",
                )
            ),
            "reliability": Markup(
                figures.reliability_diagram(
                    bins.clips[:, i],
                    bins.score[:, i],
                    bins.frequency[:, i],
                    f"Calibration of {row['name']}",
                )
            ),
        }
        for i, row in enumerate(rows)
    ]


def _confusion(scores: Scores, decisions: Decisions) -> dict[str, Any]:
    """Return what was wrongly said where something was missed, a row per instrument."""
    found = confusion(scores.labels, decisions)
    most = max(float(found.instead.max()), float(found.usual.max()), 0.01)

    def cells(shares: npt.NDArray[np.float64]) -> list[dict[str, float]]:
        return [{"share": float(share), "shade": float(share) / most} for share in shares]

    return {
        "codes": list(zip(scores.vocabulary.codes, scores.vocabulary.names, strict=True)),
        "rows": [
            {"name": name, "missed": int(found.missed[i]), "cells": cells(found.instead[i])}
            for i, name in enumerate(scores.vocabulary.names)
            if found.missed[i]
        ],
        "usual": cells(found.usual),
    }


def _training_curves(history: Sequence[dict[str, Any]]) -> dict[str, Markup]:
    """Return heading → figure for whatever the history knows."""
    curves = {
        heading: figures.training_curve(history, metric, f"{heading} over the epochs")
        for metric, heading in CURVES.items()
    }
    return {heading: Markup(curve) for heading, curve in curves.items() if curve is not None}


def _by_count(labels: npt.NDArray[np.uint8], decisions: Decisions) -> Markup:
    """Draw micro F1 of the clips with one instrument, with two, and so on."""
    per_clip = labels.sum(axis=1)
    chosen = {f"{count}": per_clip == count for count in np.unique(per_clip)}
    return _by(chosen, labels, decisions, "instruments", "number of instruments")


def _by_genre(
    labels: npt.NDArray[np.uint8], decisions: Decisions, genres: Sequence[str | None] | None
) -> Markup | None:
    """Draw micro F1 of the clips of each genre, or return None where no genre is known."""
    known = np.array([genre or "" for genre in genres or ()])
    names = sorted(set(known.tolist()) - {""})
    if not names:
        return None
    return _by({name: known == name for name in names}, labels, decisions, "genre", "genre")


def _by(
    chosen: Mapping[str, npt.NDArray[np.bool_]],
    labels: npt.NDArray[np.uint8],
    decisions: Decisions,
    axis: str,
    what: str,
) -> Markup:
    """Draw micro F1 of several kinds of clips."""
    names, values = [], []
    for name, clips in chosen.items():
        values.append(metrics.evaluate_decisions(labels[clips], decisions[clips])["micro_f1"])
        count = np.count_nonzero(clips)
        names.append(f"{name}\n{count:,} {'clip' if count == 1 else 'clips'}")
    return Markup(figures.bars(names, values, axis, f"Micro F1 by {what}"))


def _worst_clips(
    scores: Scores, decisions: Decisions, player: Callable[[str], str | None] | None
) -> list[dict[str, Any]]:
    """Return the clips with the most wrong decisions, worst first."""
    wrong = (scores.labels != decisions).sum(axis=1)
    order = sorted(range(len(wrong)), key=lambda clip: (-wrong[clip], scores.clip_ids[clip]))

    def names(present: npt.NDArray[Any]) -> list[str]:
        return [scores.vocabulary.name(code) for code in scores.vocabulary.decode(present)]

    return [
        {
            "clip": scores.clip_ids[clip],
            "right": names(scores.labels[clip] & decisions[clip]),
            "missed": names(scores.labels[clip] & (1 - decisions[clip])),
            "audio": player(scores.clip_ids[clip]) if player else None,
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


def report_on_model(
    model: str,
    scores: Scores,
    out: str,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    tree: Path | None = None,
) -> None:
    """Write the HTML report of a model on a set of clips.

    Args:
        model: Model directory.
        scores: Its scores.
        out: The page.
        baselines: What else it is compared with, all on the same clips.
        tree: Where the audio is; None for a page without players.

    Raises:
        IrmasError: There is no finished model, the tree holds no audio, or the page cannot be
            written.
    """
    description = read_description(model)
    evaluation = evaluate_model_scores(description, scores, f"the scores of {model}")
    write_evaluation_page(
        evaluation,
        out,
        title=Path(model).name,
        baselines=baselines,
        tree=tree,
        model=description.model_dump(mode="json", exclude={"history"}),
        history=description.history,
    )


def write_evaluation_page(
    evaluation: Evaluation,
    out: str,
    title: str,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    tree: Path | None = None,
    model: Mapping[str, Any] | None = None,
    history: Sequence[dict[str, Any]] = (),
) -> None:
    """Write the HTML report of an evaluation.

    Args:
        evaluation: What it is on.
        out: The page.
        title: Its heading.
        baselines: What else is compared, beside answers that no music is needed for.
        tree: Where the audio is; None for a page without players.
        model: The content of ``model.json``, if there is one.
        history: Metrics of every epoch, if there were any.

    Raises:
        IrmasError: The tree holds no audio, or the page cannot be written.
    """
    scores = evaluation.scores
    files = {} if tree is None else {s.clip_id: s.path for s in find_files(tree) if s.path}
    names = (parse_training_name(clip_id.rpartition("/")[2]) for clip_id in scores.clip_ids)
    write_model_page(
        out,
        title=f"{title}: {len(scores.clip_ids):,} {' and '.join(sorted(set(scores.parts)))} clips",
        scores=scores,
        results=evaluation.results,
        thresholds=evaluation.thresholds,
        thresholds_from=evaluation.thresholds_from,
        model=model,
        history=history,
        baselines={**evaluation.baselines, **(baselines or {})},
        genres=[name.genre if name else None for name in names],
        player=lambda clip_id: embedded(Path(files[clip_id])) if clip_id in files else None,
    )

"""The page of a model: one self-contained HTML file to read, keep and send."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from irmas_dist import storage
from irmas_dist.corpus.audio_files import find_files
from irmas_dist.corpus.names import parse_training_name
from irmas_dist.evaluation.arrays import Decisions, Labels
from irmas_dist.evaluation.baselines import protocol_of
from irmas_dist.evaluation.calibration import reliability
from irmas_dist.evaluation.confusion import confusion
from irmas_dist.evaluation.evaluate import Evaluation
from irmas_dist.evaluation.metrics import decision_metrics
from irmas_dist.evaluation.protocols import CHOSEN_BEFORE, MEANING
from irmas_dist.evaluation.published import benchmark_of, figures_of, groups_of
from irmas_dist.evaluation.scores import Scores
from irmas_dist.reports import figures
from irmas_dist.reports.audio_player import embedded
from irmas_dist.reports.templates import render_template
from irmas_dist.training.model_description import ModelDescription

COLUMNS = {
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "lrap": "LRAP",
    "map": "mAP",
    "subset_accuracy": "Subset accuracy",
    "ece": "Calibration error",
}
"""Columns of the comparison: key of `metrics.overall_metrics` and heading."""

CURVES = {
    "loss": "Loss",
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "micro_precision": "Micro precision",
    "micro_recall": "Micro recall",
    "label_accuracy": "Label accuracy",
}
"""Training curves: name in the history, without ``train_`` or ``val_``, and heading."""

WORST_CLIPS = 10
"""Number of clips listed as those with the most wrong decisions."""

LONG_LIST = 12
"""Entries of the longest list that is shown in full."""


def write_model_page(
    location: str | os.PathLike[str],
    evaluation: Evaluation,
    title: str,
    description: ModelDescription | None = None,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    tree: Path | None = None,
) -> None:
    """Write the HTML page of an evaluation.

    Args:
        location: Path or URL of the page.
        evaluation: The figures of instruments and clips are those of its headline.
        title: First part of the heading.
        description: The content of ``model.json``: training curves, recipe and versions.
        baselines: Name to metrics of other models on the same clips.
        tree: The audio, for players of the worst clips; None for a page without players.

    Raises:
        IrmasError: The tree contains no audio, or the page cannot be written.
    """
    scores, headline = evaluation.scores, evaluation.headline
    labels, decisions = scores.labels, headline.decisions
    thresholds = evaluation.thresholds if headline.protocol in CHOSEN_BEFORE else None
    parts = sorted(set(scores.parts))
    missed, instead, usual = confusion(labels, decisions)
    files = [] if tree is None else find_files(tree, scores.vocabulary.codes)
    audio = {file.clip_id: file.path for file in files if file.path}
    page = render_template(
        "model_page.html",
        title=f"{title}: {len(scores.clip_ids):,} {' and '.join(parts)} clips",
        headline=headline,
        notes=evaluation.notes,
        clips=len(scores.clip_ids),
        partly_known=evaluation.partly_known,
        groups=len(set(scores.groups)),
        of=groups_of(scores.vocabulary),
        parts=parts,
        per_clip=float((labels == 1).sum(axis=1).mean()),
        own_thresholds=thresholds is not None,
        one_threshold=thresholds is not None and len(np.unique(thresholds)) == 1,
        thresholds_from=evaluation.thresholds_from if thresholds is not None else "",
        meaning=MEANING,
        columns=COLUMNS,
        figures=figures_of(scores.vocabulary),
        rows=_comparison(evaluation, baselines or {}),
        instruments=_instruments(evaluation),
        instrument_names=list(zip(scores.vocabulary.codes, scores.vocabulary.names, strict=True)),
        missed=missed.astype(int).tolist(),
        instead=instead.tolist(),
        usual=usual.tolist(),
        darkest=max(instead.max(), usual.max(), 0.01),
        curves=_training_curves(description.history if description else []),
        by_count=_micro_f1_by(
            "number of instruments", (labels == 1).sum(axis=1), labels, decisions
        ),
        by_genre=_micro_f1_by("genre", _genres(scores), labels, decisions),
        worst=_worst_clips(scores, decisions, audio),
        facts=_facts(description) if description else [],
    )
    with storage.write_atomically(location) as stream:
        stream.write(page.encode())


def _comparison(
    evaluation: Evaluation, baselines: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Return one row per protocol, baseline and, on a data set's test clips, published result."""
    rows: list[tuple[str, str, Mapping[str, float | None]]] = [
        ("These scores", protocol, result.metrics)
        for protocol, result in evaluation.results.items()
    ]
    rows += [
        (name, protocol_of(name), values)
        for name, values in {**evaluation.baselines, **baselines}.items()
    ]
    benchmark = benchmark_of(evaluation.scores.vocabulary)
    if benchmark and len(evaluation.scores.clip_ids) == benchmark.clips:
        for work in benchmark.works:
            rows.append((work.work, work.decided, asdict(work)))
    return [
        {"name": name, "protocol": protocol, "figures": [values.get(key) for key in COLUMNS]}
        for name, protocol, values in rows
    ]


def _instruments(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the figures of each instrument, with its charts."""
    labels, scores = evaluation.scores.labels, evaluation.scores.scores
    decisions = evaluation.headline.decisions
    bins = reliability(labels, scores)
    return [
        row
        | {
            "curve": figures.precision_recall_curve(
                labels[:, i], scores[:, i], decisions[:, i],
                f"Precision and recall of {row['name']}",
            ),
            "reliability": figures.reliability_diagram(bins, i, f"Calibration of {row['name']}"),
        }
        for i, row in enumerate(evaluation.instruments)
    ]  # fmt: skip


def _training_curves(history: list[dict[str, Any]]) -> dict[str, Markup]:
    """Return heading to chart of every metric in the history."""
    curves = {
        heading: figures.training_curve(history, metric, f"{heading} over the epochs")
        for metric, heading in CURVES.items()
    }
    return {heading: curve for heading, curve in curves.items() if curve is not None}


def _genres(scores: Scores) -> npt.NDArray[np.str_]:
    """Return the genre in the name of each clip, shape (clips,); empty where there is none."""
    names = (parse_training_name(clip_id.rpartition("/")[2]) for clip_id in scores.clip_ids)
    return np.array([name.genre or "" if name else "" for name in names])


def _micro_f1_by(
    what: str, kinds: npt.NDArray[Any], labels: Labels, decisions: Decisions
) -> Markup | None:
    """Draw micro F1 of each kind of clips with an instrument, or return None without any."""
    names, values = [], []
    for kind in np.unique(kinds).tolist():
        if kind == "":
            continue
        clips = kinds == kind
        if not (labels[clips] == 1).any():  # F1 would be 0, however right they are.
            continue
        values.append(decision_metrics(labels[clips], decisions[clips])["micro_f1"])
        count = np.count_nonzero(clips)
        names.append(f"{kind}\n{count:,} {'clip' if count == 1 else 'clips'}")
    axis = what.removeprefix("number of ")
    return figures.bars(names, values, axis, f"Micro F1 by {what}") if names else None


def _worst_clips(
    scores: Scores, decisions: Decisions, audio: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the clips with the most wrong decisions, worst first."""
    plays, absent = scores.labels == 1, scores.labels == 0
    wrong = ((plays & (decisions == 0)) | (absent & (decisions == 1))).sum(axis=1)
    order = sorted(range(len(wrong)), key=lambda clip: (-wrong[clip], scores.clip_ids[clip]))

    def names(instruments: npt.NDArray[np.integer[Any]]) -> list[str]:
        return [scores.vocabulary.name(code) for code in scores.vocabulary.decode(instruments)]

    return [
        {
            "clip": clip_id,
            "right": names(plays[clip] & decisions[clip]),
            "missed": names(plays[clip] & (1 - decisions[clip])),
            "audio": embedded(Path(audio[clip_id])) if clip_id in audio else None,
            "wrong": names(absent[clip] & decisions[clip]),
        }
        for clip in order[:WORST_CLIPS]
        if wrong[clip]
        for clip_id in [scores.clip_ids[clip]]
    ]


def _facts(description: ModelDescription) -> list[tuple[str, str]]:
    """Return what is known of a model, but for its history."""
    content = description.model_dump(mode="json", exclude={"history", "data", "adapted"})
    # An ensemble's are its members'.
    content |= {} if description.members else {"data": description.data.facts()}
    if description.adapted:
        content["adapted"] = description.adapted.model_dump(mode="json", exclude_defaults=True)
    return list(_flat(content))


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Yield nested settings as pairs of dotted name and value; long lists are summarised."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and len(value) > LONG_LIST:
        if all(isinstance(item, int | float) for item in value):
            yield name, f"{len(value)} numbers from {min(value):.4g} to {max(value):.4g}"
        else:
            yield name, f"{len(value)} entries"
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

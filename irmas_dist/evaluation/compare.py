"""Several models on the same clips: which differences are significant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from irmas_dist.config.decisions import FOR_SCORES, Protocol, ThresholdSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.arrays import Thresholds
from irmas_dist.evaluation.bootstrap import (
    Interval,
    draw_songs,
    holm,
    interval,
)
from irmas_dist.evaluation.permutation_test import Judged, least_p_value, p_values
from irmas_dist.evaluation.protocols import CHOSEN_BEFORE, Result, apply_protocols, decide_by
from irmas_dist.evaluation.scores import Scores
from irmas_dist.instruments import Vocabulary

COMPARED = ("micro_f1", "macro_f1", "lrap", "map")
"""The metrics that models are compared by."""

SIGNIFICANT = 0.05
"""A difference with a p-value below is significant."""


@dataclass(frozen=True)
class Comparison:
    """Several models on the same clips.

    Attributes:
        protocol: How the thresholds of all models were chosen.
        settings: How they were fitted, if they were fitted to the clips.
        models: Name to figures and their intervals.
        differences: First model less second, by pair and metric.
        clips: Number of clips.
        songs: Number of songs that they come from.
        vocabulary: Their instruments.
    """

    protocol: Protocol
    settings: ThresholdSettings
    models: dict[str, Result]
    differences: dict[tuple[str, str], dict[str, "Difference"]]
    clips: int
    songs: int
    vocabulary: Vocabulary


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another.

    Attributes:
        value: First less second.
        interval: 95 %, over songs; None of one song.
        p: Two-sided p-value, corrected by Holm for the number of pairs; None where there are too
            few songs for any to be significant.
    """

    value: float
    interval: Interval | None
    p: float | None

    @property
    def significant(self) -> bool:
        """Whether it is significant, at 5 %."""
        return self.p is not None and self.p < SIGNIFICANT


def compare(
    opened: Mapping[str, tuple[Scores, Thresholds | None]],
    protocol: Protocol | None = None,
    settings: ThresholdSettings = FOR_SCORES,
) -> Comparison:
    """Compare models on the same clips: the same songs are drawn for all of them.

    Args:
        opened: By name, each model's scores, and its own thresholds if it has any.
        protocol: How thresholds are chosen; None: see `default_protocol`.
        settings: How thresholds of all models are fitted to the clips, if they are.

    Raises:
        IrmasError: A model has no thresholds of its own and needs them, or two do not have the
            same clips, labels and instruments.
    """
    first_name, (first, _) = next(iter(opened.items()))
    aligned = [_aligned(scores, name, first, first_name) for name, (scores, _) in opened.items()]
    groups = _joined_groups([scores.groups for scores in aligned])
    without = [name for name, (_, own) in opened.items() if own is None]
    chosen = protocol or default_protocol(own for _, own in opened.values())
    if chosen in CHOSEN_BEFORE and without:
        raise IrmasError(f"{without[0]} has no thresholds of its own; compare by another protocol")
    draws = draw_songs(groups)
    results = {}
    for (name, (_, own)), found in zip(opened.items(), aligned, strict=True):
        scores = replace(found, groups=groups)
        try:
            decisions = decide_by(chosen, scores, own, settings)
        except IrmasError as error:
            if protocol:
                raise
            raise IrmasError(f"{error}, or compare with --protocol oracle") from error
        results[name] = apply_protocols(scores, {chosen: decisions}, draws)[chosen]
    judged = {
        name: Judged(found.scores, results[name].decisions)
        for name, found in zip(results, aligned, strict=True)
    }
    pairs = list(combinations(results, 2))
    p = {(a, b): p_values(first.labels, judged[a], judged[b], draws) for a, b in pairs}
    differences: dict[tuple[str, str], dict[str, Difference]] = {pair: {} for pair in pairs}
    tested = len(pairs) * least_p_value(draws.songs) < SIGNIFICANT
    for metric in COMPARED:
        values = {name: result.figures.overall[metric] for name, result in results.items()}
        gaps = {(a, b): values[a] - values[b] for a, b in pairs}
        corrected = holm({pair: p[pair][metric] for pair in pairs})
        for pair, gap in gaps.items():
            differences[pair][metric] = Difference(
                float(gap[0]), interval(gap, draws), corrected[pair] if tested else None
            )
    songs = len(set(groups))
    clips = len(first.clip_ids)
    return Comparison(chosen, settings, results, differences, clips, songs, first.vocabulary)


def default_protocol(thresholds: Iterable[Thresholds | None]) -> Protocol:
    """Return ``validation`` where all models have thresholds of their own."""
    return "cross-validated" if any(own is None for own in thresholds) else "validation"


def _aligned(scores: Scores, name: str, first: Scores, first_name: str) -> Scores:
    """Return scores in the order of the first model's clips.

    Raises:
        IrmasError: The clips, labels or instruments differ.
    """
    if scores.vocabulary.codes != first.vocabulary.codes:
        raise IrmasError(
            f"{name} and {first_name} are for other instruments: evaluate both with the same --map"
        )
    rows = {clip_id: number for number, clip_id in enumerate(scores.clip_ids)}
    for clip_id in first.clip_ids:
        if clip_id not in rows:
            raise IrmasError(f"{name} has no score for {clip_id!r}, which {first_name} has")
    if len(rows) > len(first.clip_ids):
        extra = next(iter(rows.keys() - set(first.clip_ids)))
        raise IrmasError(f"{first_name} has no score for {extra!r}, which {name} has")
    order = [rows[clip_id] for clip_id in first.clip_ids]
    if (scores.labels[order] != first.labels).any():
        wrong = int((scores.labels[order] != first.labels).any(axis=1).argmax())
        raise IrmasError(f"{name} and {first_name} label {first.clip_ids[wrong]!r} differently")
    groups = [scores.groups[row] for row in order]
    return replace(first, scores=scores.scores[order], groups=groups)


def _joined_groups(groupings: Sequence[list[str]]) -> list[str]:
    """Return the group of each clip, where clips share one that share one in any of several.

    Scores of another model may know nothing of songs. A group has the name that its first clip
    has in the first grouping.
    """
    clips = count = len(groupings[0])
    songs = []
    for groups in groupings:
        names, numbers = np.unique(groups, return_inverse=True)
        songs.append(count + numbers)
        count += len(names)
    ends = np.tile(np.arange(clips), len(groupings)), np.concatenate(songs)
    shared = sparse.coo_array((np.ones(len(ends[0])), ends), shape=(count, count))
    _, joined = connected_components(shared, directed=False)
    named: dict[int, str] = {}
    return [
        named.setdefault(int(group), name)
        for group, name in zip(joined, groupings[0], strict=False)  # Songs follow the clips.
    ]

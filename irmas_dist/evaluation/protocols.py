"""Three ways to choose thresholds, which give figures that must not be confused.

``validation``
    Thresholds chosen without any test data: the headline, and the only figure that says how
    the model will do on music of which nothing is known.
``cross-validated``
    The test's songs are dealt into folds, and each fold is decided by thresholds fitted to the
    others. No clip is decided by its own label, but thresholds know what the test set is like.
``oracle``
    Thresholds fitted to the very clips that they are judged by: an upper bound, and only to
    compare with works that swept theirs on the test set.

Every figure that is printed, written or drawn has the name of its protocol beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation import metrics
from irmas_dist.evaluation.arrays import Decisions, Float64, Labels, ScoreArray
from irmas_dist.evaluation.bootstrap import (
    Draws,
    Interval,
    interval,
    replicate_decisions,
    replicate_scores,
)
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.scores import Scores
from irmas_dist.evaluation.thresholds import fit_thresholds

Protocol = Literal["validation", "cross-validated", "oracle"]

MEANING: dict[Protocol, str] = {
    "validation": "thresholds chosen without any test data",
    "cross-validated": "thresholds fitted to the test's other songs",
    "oracle": "thresholds fitted to the test itself",
}
"""What each protocol is, in few words, in the order in which they are shown."""


@dataclass(frozen=True)
class Result:
    """How decisions by one protocol do.

    Attributes:
        protocol: How the thresholds were chosen.
        decisions: 0 or 1, shape (clips, instruments).
        metrics: As from `metrics.evaluate`.
        replicates: The same for every way to take the songs, and ``f1`` of each instrument.
        intervals: The 95 % interval of each figure, over songs.
        instrument_intervals: Those of each instrument's F1.
    """

    protocol: Protocol
    decisions: Decisions
    metrics: dict[str, float]
    replicates: dict[str, Float64]
    intervals: dict[str, Interval]
    instrument_intervals: list[Interval]


def apply_protocols(
    scores: Scores, decisions: Mapping[Protocol, Decisions], draws: Draws
) -> dict[Protocol, Result]:
    """Judge decisions, with intervals.

    Args:
        scores: The clips.
        decisions: 0 or 1, shape (clips, instruments), by how they were come by.
        draws: As from `bootstrap.draw_songs` for the clips' groups.
    """
    of_scores = metrics.judge_scores(scores.labels, scores.scores)
    scores_replicated = replicate_scores(scores.labels, scores.scores, draws)
    score_intervals = {name: interval(scores_replicated[name], draws) for name in of_scores}
    results: dict[Protocol, Result] = {}
    for protocol, said in decisions.items():
        figures = metrics.judge_decisions(scores.labels, said)
        replicates = replicate_decisions(scores.labels, said, draws)
        results[protocol] = Result(
            protocol=protocol,
            decisions=said,
            metrics=figures | of_scores,
            replicates=replicates | scores_replicated,
            intervals={name: interval(replicates[name], draws) for name in figures}
            | score_intervals,
            instrument_intervals=[interval(column, draws) for column in replicates["f1"].T],
        )
    return results


def cross_validated(
    labels: Labels, scores: ScoreArray, folds: npt.NDArray[np.int64], settings: ThresholdSettings
) -> Decisions:
    """Decide each fold by thresholds that are fitted to the others.

    The same on a validation set says what thresholds are worth that were fitted to all of it.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        scores: Shape (clips, instruments), from 0 to 1.
        folds: Fold of each clip, two or more; clips of one song in one, as `split.k_folds` deals.
        settings: How thresholds are fitted.

    Returns:
        Decisions, uint8, shape (clips, instruments).
    """
    decisions = np.zeros(labels.shape, np.uint8)
    for fold in np.unique(folds):
        here = folds == fold
        thresholds = fit_thresholds(labels[~here], scores[~here], settings)
        decisions[here] = decide(scores[here], thresholds)
    return decisions

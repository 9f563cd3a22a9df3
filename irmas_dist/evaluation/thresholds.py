"""Decision thresholds: from scores to the instruments that are said to play.

An instrument is said when ``score >= threshold``. Scores are float32 from 0 to 1 and are
compared as float32, so that a decision does not depend on whether a score or a threshold
has been through a file. Clips with equal scores are never told apart.

For F1, thresholds are fitted exactly: it changes only between neighbouring distinct scores, so
one sort visits every decision there is. A fitted threshold lies midway between the two scores
it separates; below the smallest score, midway between it and 0. Of thresholds that are
equally good the highest wins. An instrument that is better never said, such as one that
never occurs in the clips at hand, gets `NEVER`, which is above every score there can be.
Whatever else thresholds may be chosen for, `threshold_search` finds them.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from irmas_dist.config.base import Settings
from irmas_dist.evaluation import objectives

NEVER = np.nextafter(np.float32(1), np.float32(2))
"""The threshold of an instrument that is never said: the smallest float32 above 1."""


ObjectiveName = Literal[
    "macro_f1",
    "micro_f1",
    "macro_f2",
    "micro_f2",
    "macro_f05",
    "micro_f05",
    "subset_accuracy",
    "cost",
]
"""What thresholds can make as large as possible. F2 counts recall twice as much as precision,
F0.5 half as much; subset accuracy is the share of clips whose set of instruments is exactly
right; cost is that of wrong decisions, which is made as small as possible."""


class ThresholdSettings(Settings):
    """How decision thresholds are chosen."""

    rule: Literal["global", "per_instrument"] = "per_instrument"
    """One threshold for all instruments, or one for each."""

    objective: ObjectiveName = "macro_f1"
    """What the thresholds make as large as possible on the clips they are fitted to."""

    cost_of_missing: float = Field(1.0, gt=0.0)
    """For the objective ``cost``: what it costs to miss an instrument, where saying one that
    does not play costs 1."""


class OperatingPoints(NamedTuple):
    """Every way to cut a list of scores in two, from nothing said to everything said.

    Attributes:
        thresholds: float32, shape (points,), falling; the first is `NEVER`.
        hits: Right decisions to say the instrument (true positives), shape (points,).
        said: All decisions to say the instrument, shape (points,).
    """

    thresholds: npt.NDArray[np.float32]
    hits: npt.NDArray[np.int64]
    said: npt.NDArray[np.int64]


def decide(
    scores: npt.NDArray[np.floating[Any]], thresholds: npt.ArrayLike
) -> npt.NDArray[np.uint8]:
    """Return 1 where an instrument is said to play, shape (clips, instruments).

    Args:
        scores: Shape (clips, instruments), from 0 to 1.
        thresholds: Shape (instruments,), or one number for all.
    """
    return (scores.astype(np.float32) >= np.asarray(thresholds, np.float32)).astype(np.uint8)


def fit_thresholds(
    labels: npt.NDArray[np.integer[Any]],
    scores: npt.NDArray[np.floating[Any]],
    settings: ThresholdSettings,
) -> npt.NDArray[np.float32]:
    """Return the thresholds that are best on these clips, float32, shape (instruments,).

    For F1, and for one threshold for all instruments, the optimum is exact. Fit on clips that
    look like those to be scored (as many instruments at once), and never on the clips that a
    result is reported for.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        scores: Shape (clips, instruments), from 0 to 1.
        settings: What is fitted, and to what end.
    """
    if settings.objective not in ("macro_f1", "micro_f1"):
        # Here, because Optuna takes a second to import, and few need it.
        from irmas_dist.evaluation import threshold_search

        objective = objective_of(settings)
        if settings.rule == "global":
            return threshold_search.best_global_threshold(labels, scores, objective)
        return threshold_search.search_thresholds(labels, scores, objective)
    instruments = labels.shape[1]
    if settings.rule == "global":
        if settings.objective == "micro_f1":
            points = operating_points(labels.ravel(), scores.ravel())
            best = points.thresholds[_f1(points, int(labels.sum())).argmax()]
        else:
            best = _best_global_for_macro_f1(labels, scores)
        return np.full(instruments, best, dtype=np.float32)
    columns = [operating_points(labels[:, i], scores[:, i]) for i in range(instruments)]
    if settings.objective == "micro_f1":
        return _best_for_micro_f1(columns, int(labels.sum()))
    best_points = [
        points.thresholds[_f1(points, int(clips)).argmax()]
        for points, clips in zip(columns, labels.sum(axis=0), strict=True)
    ]
    return np.array(best_points, dtype=np.float32)


def operating_points(
    labels: npt.NDArray[np.integer[Any]], scores: npt.NDArray[np.floating[Any]]
) -> OperatingPoints:
    """Sort once and count what every threshold would say.

    Args:
        labels: 0 or 1, shape (clips,).
        scores: Shape (clips,), from 0 to 1.
    """
    scores = scores.astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last_of_ties = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    hits = np.cumsum(labels[order], dtype=np.int64)[last_of_ties]
    return OperatingPoints(
        thresholds=np.insert(_midway(falling[last_of_ties]), 0, NEVER),
        hits=np.insert(hits, 0, 0),
        said=np.insert(last_of_ties + 1, 0, 0),
    )


def objective_of(settings: ThresholdSettings) -> objectives.Objective:
    """Return what thresholds are to make as large as possible, as a function of decisions."""
    match settings.objective:
        case "cost":
            return objectives.cost(settings.cost_of_missing)
        case "subset_accuracy":
            return objectives.subset_accuracy
        case name:
            average, _, beta = name.partition("_f")
            return objectives.f_beta(
                "micro" if average == "micro" else "macro", 0.5 if beta == "05" else float(beta)
            )


def _midway(falling: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return for each score the threshold between it and the next lower one (or 0)."""
    lower = np.append(falling[1:], np.float32(0))
    middle = ((falling.astype(np.float64) + lower) / 2).astype(np.float32)
    # Between two neighbouring float32 there is nothing: the middle may round to the lower one.
    return np.where(middle > lower, middle, falling)


def _f1(points: OperatingPoints, positives: int) -> npt.NDArray[np.float64]:
    """Return F1 = 2 hits / (said + positives) at every operating point; 0 where undefined."""
    return 2 * points.hits / np.maximum(points.said + positives, 1)


def _best_global_for_macro_f1(
    labels: npt.NDArray[np.integer[Any]], scores: npt.NDArray[np.floating[Any]]
) -> np.float32:
    """Return the one threshold, of all that differ in some decision, with the best macro F1."""
    thresholds = operating_points(labels.ravel(), scores.ravel()).thresholds
    total = np.zeros(len(thresholds))
    for present, column in zip(labels.T, scores.astype(np.float32).T, strict=True):
        positives = np.sort(column[present == 1])
        hits = len(positives) - np.searchsorted(positives, thresholds)
        said = len(column) - np.searchsorted(np.sort(column), thresholds)
        total += _f1(OperatingPoints(thresholds, hits, said), len(positives))
    return thresholds[total.argmax()]


def _best_for_micro_f1(columns: list[OperatingPoints], positives: int) -> npt.NDArray[np.float32]:
    """Return one threshold per instrument so that micro F1 is as large as it can be.

    Micro F1 is a ratio of sums over instruments, 2 hits / (said + positives). By Dinkelbach,
    "On nonlinear fractional programming", Management Science 13 (1967), its maximum F is
    where the maximum of 2 hits - F (said + positives) is zero; for a given F that
    difference falls apart into one term per instrument. F rises with every round and takes
    finitely many values, so this ends (after some five rounds) at the global optimum.
    """
    best_f1 = 0.0
    best = np.full(len(columns), NEVER, dtype=np.float32)
    while True:
        picks = [int((2 * points.hits - best_f1 * points.said).argmax()) for points in columns]
        hits = sum(int(points.hits[pick]) for points, pick in zip(columns, picks, strict=True))
        said = sum(int(points.said[pick]) for points, pick in zip(columns, picks, strict=True))
        f1 = 2 * hits / max(said + positives, 1)
        if f1 <= best_f1:
            return best
        best_f1 = f1
        best = np.array(
            [points.thresholds[pick] for points, pick in zip(columns, picks, strict=True)],
            dtype=np.float32,
        )

"""Decision thresholds that maximise F1, found exactly."""

from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.operating_points import NEVER, OperatingPoints, _f1, operating_points


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

"""Decision thresholds that maximise F1, found exactly.

F1 changes only between neighbouring distinct scores, so one sort visits every possible decision.
A fitted threshold lies midway between the two scores it separates; below the smallest score,
midway between it and 0. Of equally good thresholds the highest is chosen.
"""

import numpy as np

from irmas_dist.config.decisions import ThresholdRule
from irmas_dist.evaluation.arrays import Labels, ScoreArray, Thresholds
from irmas_dist.evaluation.metrics import f_measure
from irmas_dist.evaluation.objectives import Average
from irmas_dist.evaluation.operating_points import NEVER, OperatingPoints, operating_points
from irmas_dist.instruments import UNKNOWN


def best_thresholds_for_f1(
    labels: Labels, scores: ScoreArray, average: Average, rule: ThresholdRule = "per_instrument"
) -> Thresholds:
    """Return the thresholds with the best micro or macro F1."""
    known = labels != UNKNOWN
    positives = (labels == 1).sum(axis=0)
    if rule == "per_instrument":
        columns = [
            operating_points(labels[rows, i], scores[rows, i]) for i, rows in enumerate(known.T)
        ]
        if average == "micro":
            return _best_for_micro_f1(columns, int(positives.sum()))
        best = [
            points.thresholds[f_measure(points.true_positives, points.predicted, clips).argmax()]
            for points, clips in zip(columns, positives, strict=True)
        ]
        return np.array(best, np.float32)
    thresholds, true_positives, predicted = operating_points(labels[known], scores[known])
    if average == "micro":
        f1 = f_measure(true_positives, predicted, positives.sum())
    else:
        f1 = np.zeros(len(thresholds))
        for label, column in zip(labels.T, scores.astype(np.float32).T, strict=True):
            ranked, column = np.sort(column[label == 1]), column[label != UNKNOWN]
            true_positives = len(ranked) - np.searchsorted(ranked, thresholds)
            predicted = len(column) - np.searchsorted(np.sort(column), thresholds)
            f1 += f_measure(true_positives, predicted, len(ranked))
    return np.full(len(positives), thresholds[f1.argmax()], np.float32)


def _best_for_micro_f1(columns: list[OperatingPoints], positives: int) -> Thresholds:
    """Return one threshold per instrument that together maximise micro F1.

    Micro F1 is a ratio of sums over instruments, 2 tp / (predicted + positives). By Dinkelbach,
    "On nonlinear fractional programming", Management Science 13 (1967), its maximum F is
    where the maximum of 2 tp - F (predicted + positives) is zero; for a given F that
    difference is a sum of one term per instrument. F rises with every round and takes
    finitely many values, so this ends (after some five rounds) at the global optimum.
    """
    best_f1 = 0.0
    best = np.full(len(columns), NEVER, dtype=np.float32)
    while True:
        chosen = []
        for points in columns:
            pick = (2 * points.true_positives - best_f1 * points.predicted).argmax()
            chosen.append([counts[pick] for counts in points])
        thresholds, true_positives, predicted = zip(*chosen, strict=True)
        f1 = float(f_measure(int(sum(true_positives)), int(sum(predicted)), positives))
        if f1 <= best_f1:
            return best
        best_f1, best = f1, np.array(thresholds, dtype=np.float32)

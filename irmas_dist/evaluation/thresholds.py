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

from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation import objectives
from irmas_dist.evaluation.exact_thresholds import _best_for_micro_f1, _best_global_for_macro_f1
from irmas_dist.evaluation.operating_points import _f1, operating_points


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

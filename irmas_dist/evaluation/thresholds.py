"""Decision thresholds: from scores to predicted instruments.

An instrument is predicted when ``score >= threshold``. Scores are float32 from 0 to 1 and are
compared as float32, so that a decision does not depend on whether a score or a threshold
has been through a file. Clips with equal scores always get the same decision.

For F1 the optimum is exact (`exact_thresholds`); for other objectives it is searched for
(`threshold_search`). An instrument that is better never predicted, such as one that never occurs
in the clips, gets `NEVER`, which is above every possible score.
"""

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.arrays import Labels, ScoreArray, Thresholds
from irmas_dist.evaluation.exact_thresholds import best_thresholds_for_f1
from irmas_dist.evaluation.objectives import Average, objective_of


def fit_thresholds(labels: Labels, scores: ScoreArray, settings: ThresholdSettings) -> Thresholds:
    """Return the thresholds that are best on these clips.

    For F1, and for one threshold for all instruments, the optimum is exact. Fit to clips that
    resemble those to be scored (with as many instruments each), and never to the clips that a
    result is reported for.
    """
    if settings.objective in ("macro_f1", "micro_f1"):
        average: Average = "micro" if settings.objective == "micro_f1" else "macro"
        return best_thresholds_for_f1(labels, scores, average, settings.rule)
    # Imported here because Optuna takes a second to import, and few need it.
    from irmas_dist.evaluation import threshold_search

    if settings.rule == "global":
        return threshold_search.best_global_threshold(labels, scores, objective_of(settings))
    return threshold_search.search_thresholds(labels, scores, objective_of(settings))

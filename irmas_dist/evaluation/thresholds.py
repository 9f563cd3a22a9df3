"""Decision thresholds: from scores to predicted instruments.

An instrument is predicted when ``score >= threshold``. Scores are float32 from 0 to 1 and are
compared as float32, so that a decision does not depend on whether a score or a threshold
has been through a file. Clips with equal scores always get the same decision.

For F1 the optimum is exact (`exact_thresholds`); for other objectives it is searched for
(`threshold_search`). An instrument that is better never predicted, such as one that never occurs
in the clips, gets `NEVER`, which is above every possible score.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.arrays import Labels, ScoreArray, Thresholds
from irmas_dist.evaluation.exact_thresholds import best_thresholds_for_f1
from irmas_dist.evaluation.objectives import Average, objective_of
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.instruments import UNKNOWN

EXACT = ("macro_f1", "micro_f1")
"""Objectives whose best thresholds are found exactly, and fast."""

DRAWS = 30
"""Bootstrap samples over which thresholds are averaged."""

EXTREME = 1e-4
"""How near to 0 and 1 the threshold of a sample may be to be averaged.

Where most are nearer, as scores of rare instruments may be, their median is taken."""


TINY = 1e-9
"""How near to 0 and 1 a mean score may be to have finite log-odds."""


def fit_thresholds(labels: Labels, scores: ScoreArray, settings: ThresholdSettings) -> Thresholds:
    """Return the thresholds that are best on these clips.

    For F1, and for one threshold for all instruments, the optimum is exact. Fit to clips that
    resemble those to be scored (with as many instruments each), and never to the clips that a
    result is reported for. For other clips, `averaged_thresholds` are better.
    """
    if settings.objective in EXACT:
        average: Average = "micro" if settings.objective == "micro_f1" else "macro"
        return best_thresholds_for_f1(labels, scores, average, settings.rule)
    # These objectives are means over clips, those of which something is known.
    if (known := (labels != UNKNOWN).any(axis=1)).any():
        labels, scores = labels[known], scores[known]
    # Imported here because Optuna takes a second to import, and few need it.
    from irmas_dist.evaluation import threshold_search

    if settings.rule == "global":
        return threshold_search.best_global_threshold(labels, scores, objective_of(settings))
    return threshold_search.search_thresholds(labels, scores, objective_of(settings))


def averaged_thresholds(
    labels: Labels,
    scores: ScoreArray,
    settings: ThresholdSettings,
    weights: npt.NDArray[np.float64] | None = None,
) -> Thresholds:
    """Return thresholds for other clips than these: means, as logits, over bootstrap samples.

    The best thresholds of a sample follow its accidents; their mean does so less (bagging,
    Breiman, "Bagging predictors", Machine Learning 24, 1996). For objectives other than F1, whose
    thresholds are searched for, they are those that are best on the clips. `NEVER` is what most
    samples say; where only some do, these do not count.

    As the other clips' scores have less evidence, the means are moved by `nearer_to_means`.

    Args:
        labels: Of the clips.
        scores: Of the clips.
        settings: Rule, objective and evidence.
        weights: How often each clip is drawn, relative to others; None for all alike.

    Returns:
        The thresholds. The same clips give the same ones.
    """
    fitted = _averaged(labels, scores, settings, weights)
    means = np.average(scores.astype(np.float64), axis=0, weights=weights)
    return nearer_to_means(fitted, means, settings)


def nearer_to_means(
    thresholds: Thresholds, means: npt.NDArray[np.float64], settings: ThresholdSettings
) -> Thresholds:
    """Return thresholds for scores that have less evidence than those these are fitted to.

    The less evidence scores have, the nearer to their mean they are, and so are the best
    thresholds: a threshold with the logit t becomes one with m + evidence (t - m), where m is the
    logit of the mean score of its instrument, or of all of them if one threshold is for all.

    Args:
        thresholds: Shape (instruments,); `NEVER` is kept.
        means: Mean scores, of the same shape.
        settings: Rule and evidence.
    """
    if settings.evidence == 1:
        return thresholds
    if settings.rule == "global":
        means = np.full_like(means, means.mean())
    middle = logit(np.clip(means, TINY, 1 - TINY))
    moved = expit(middle + settings.evidence * (logit(thresholds.astype(np.float64)) - middle))
    return np.where(thresholds >= NEVER, thresholds, moved).astype(np.float32)


def _averaged(
    labels: Labels,
    scores: ScoreArray,
    settings: ThresholdSettings,
    weights: npt.NDArray[np.float64] | None,
) -> Thresholds:
    rng = np.random.default_rng(0)
    shares = None if weights is None else weights / weights.sum()
    if settings.objective in EXACT:
        draws = [rng.choice(len(labels), len(labels), p=shares) for _ in range(DRAWS)]
    elif shares is not None:
        draws = [rng.choice(len(labels), 10 * len(labels), p=shares)]
    else:
        return fit_thresholds(labels, scores, settings)
    fitted = np.array(
        [fit_thresholds(labels[drawn], scores[drawn], settings) for drawn in draws], np.float64
    )
    never = fitted >= NEVER
    inside = np.clip(fitted, EXTREME, 1 - EXTREME)
    logits = logit(inside).sum(axis=0, where=~never)
    means = expit(logits / np.maximum((~never).sum(axis=0), 1))
    middle = np.ma.median(np.ma.masked_array(fitted, never), axis=0).filled(0.0)
    # Not 0: silence scores 0, and has no instrument.
    beyond = (middle > 0) & (middle < 1) & (np.abs(middle - 0.5) > 0.5 - EXTREME)
    means = np.where(beyond, middle, means)
    return np.where(never.mean(axis=0) > 0.5, NEVER, means).astype(np.float32)

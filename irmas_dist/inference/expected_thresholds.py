"""Thresholds for clips without labels: the best ones in expectation, by calibrated scores.

The threshold that is best for F1 depends on how sure a model is of the clips at hand, not only on
how good it is (Ye et al., "Optimizing F-measures: a tale of two approaches", ICML 2012; Lipton,
Elkan and Naryanaswamy, "Optimal thresholding of classifiers to maximize F1 measure", ECML 2014).
"""

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.arrays import Thresholds
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.platt import fit_platt
from irmas_dist.evaluation.scores import Scores
from irmas_dist.evaluation.thresholds import EXACT, EXTREME, fit_thresholds, nearer_to_means

EXACT_FIT_CLIPS = 400_000
"""Clips with drawn labels to which thresholds are fitted: of fewer clips, each is drawn anew.

Of 5,000, macro F1 of 200 clips depended by .005 on the draw; of so many, by .002.
"""

SEARCH_FIT_CLIPS = 5_000
"""The same where thresholds are searched for, which takes longer."""

PRIOR_CLIPS = 25
"""The number of clips for which thresholds of validation count as much as those of the clips."""

GIVEN_BACK = 0.5
"""Share of the evidence that scores of other sources lack which they have once they are matched.

For 15 models with a share of .65, on mixtures of held-out sources, macro F1 was .617 by thresholds
for all evidence, .626 for half of what ``evidence`` 0.6 leaves out, and .633 for none of it; but
where instruments are as rare as in validation .581, .579 and .569.
"""


def expected_thresholds(
    validation: Scores,
    weights: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float32],
    settings: ThresholdSettings,
    known: Thresholds,
) -> Thresholds:
    """Return thresholds for clips whose scores mean what they mean in validation.

    Labels are drawn by the scores, calibrated for each instrument on the validation clips, and
    thresholds fitted to them. Of few clips they say little: the result is a mean, as logits, of
    these and of thresholds that are known.

    Args:
        validation: Labelled clips.
        weights: How often each of them counts.
        scores: Of the audible clips, shape (clips, instruments).
        settings: Rule, objective and evidence.
        known: Thresholds that are right for the validation clips; `NEVER` is kept.
    """
    plays_at_all = known < NEVER  # One threshold for all would heed the others' scores.
    if not plays_at_all.any():
        return known
    labels, labelled = validation.labels, validation.scores
    calibrated = [
        fit_platt(labels[:, [column]], labelled[:, [column]], weights)(scores[:, column])
        for column in range(scores.shape[1])
    ]
    draws = -(
        -(EXACT_FIT_CLIPS if settings.objective in EXACT else SEARCH_FIT_CLIPS) // len(scores)
    )
    plays = np.random.default_rng(0).random((draws, *scores.shape)) < np.stack(calibrated, axis=1)
    drawn = plays.reshape(-1, scores.shape[1]).astype(np.int8)
    fitted = np.full(len(known), NEVER)
    playing = scores[:, plays_at_all]
    best = fit_thresholds(drawn[:, plays_at_all], np.tile(playing, (draws, 1)), settings)
    evidence = settings.evidence + GIVEN_BACK * (1 - settings.evidence)
    settings = settings.model_copy(update={"evidence": evidence})
    fitted[plays_at_all] = nearer_to_means(best, playing.mean(axis=0, dtype=np.float64), settings)
    share = len(scores) / (len(scores) + PRIOR_CLIPS)
    # Known thresholds nearer to 0 or 1 are not accidents.
    low = np.where(known > 0, np.minimum(known, EXTREME), EXTREME)
    high = np.where(known < 1, np.maximum(known, 1 - EXTREME), 1 - EXTREME)
    ours, theirs = (logit(np.clip(each, low, high)) for each in (fitted, known))
    between = expit(share * ours + (1 - share) * theirs).astype(np.float32)
    return np.where((fitted >= NEVER) | (known >= NEVER), known, between)

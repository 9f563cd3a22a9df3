"""Whether and how far a model can be adapted, and the thresholds that it is adapted from."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from irmas_dist.config.adaptation import AdaptationSettings
from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.errors import IrmasError, UsageError
from irmas_dist.evaluation.arrays import Thresholds
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.scores import Scores
from irmas_dist.evaluation.thresholds import averaged_thresholds
from irmas_dist.inference.logit_matching import Float64, effective_instruments
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.validation_rule import threshold_origin

MIN_DISTINCT_CLIPS = 5
"""Different clips below which there is no deviation to match."""

CONCENTRATED = 0.65
"""Logits are not matched where the likeliest instruments of the clips are effectively fewer than
this share of those of the validation clips. The effective number is the exponential of the entropy
of how often each is the likeliest. Clips of one or two instruments have a tenth to a third of it,
clips of half of them .45 to .63 (on one of four splits .8), and clips of all .67 and more; where a
third never plays it is a matter of chance, and their prevalence should be given."""


def require_adaptable(description: ModelDescription, settings: AdaptationSettings) -> None:
    """Refuse a model or a prevalence that cannot be used, before any audio is read.

    Raises:
        IrmasError: The model is an adapted one, or a prevalence is of no instrument or not from 0
            to 1.
    """
    if description.adapted is not None:
        raise IrmasError(
            f"the model is already adapted, to {description.adapted.to}: adapt the original"
        )
    _check_prevalence(settings.prevalence, description)


def _check_prevalence(prevalence: Mapping[str, float], description: ModelDescription) -> None:
    for code, share in prevalence.items():
        if code not in description.instruments:
            known = ", ".join(description.instruments)
            raise UsageError(f"--prevalence {code}={share:g}: {code} is none of {known}")
        if not 0 <= share <= 1:
            raise UsageError(f"--prevalence {code}={share:g}: must be from 0 to 1")
    if prevalence and not any(prevalence.get(code, 1.0) for code in description.instruments):
        raise UsageError("--prevalence: by these no instrument plays")


def how_far(
    description: ModelDescription,
    validation: Scores,
    weights: Float64,
    scores: npt.NDArray[np.float32],
    distinct: int,
    settings: AdaptationSettings,
) -> tuple[float, str]:
    """Return how far logits can be matched, from 0 to 1, and why it is not as far as asked.

    Args:
        description: Of the model.
        validation: Its scores of the validation clips.
        weights: How often each of them counts.
        scores: Of the clips to adapt to.
        distinct: Number of different ones.
        settings: How far it is asked to.
    """
    if description.relative:
        return 0.0, f"scores aggregated by {description.windows.aggregation} are relative"
    if distinct < MIN_DISTINCT_CLIPS:
        return 0.0, f"too few different clips for a mean and a deviation: {distinct}"
    if set(settings.prevalence) != set(description.instruments):
        ours = effective_instruments(scores, np.ones(len(scores)))
        theirs = effective_instruments(validation.scores, weights)
        if ours < CONCENTRATED * theirs:
            return 0.0, (
                f"the likeliest instruments of the clips are effectively {ours:.1f}, those of "
                f"validation {theirs:.1f}; if more play, say of each how often: --prevalence"
            )
    return settings.match, ""


def thresholds_before(
    description: ModelDescription,
    validation: Scores,
    weights: Float64,
    present: npt.NDArray[np.bool_],
    rule: ThresholdSettings,
    settings: AdaptationSettings,
) -> tuple[Thresholds, str]:
    """Return thresholds that are right for the validation clips, and what they are fitted to.

    Args:
        description: Of the model.
        validation: Its scores of the validation clips.
        weights: How often each of them counts, if a prevalence is known.
        present: Which instruments play at all.
        rule: How thresholds are fitted.
        settings: With the prevalence that is known.
    """
    thresholds, origin = description.threshold_array(), description.thresholds_from
    if settings.prevalence or rule != description.validation_settings:
        drawn = weights if settings.prevalence else None
        thresholds = np.full(len(present), NEVER)
        thresholds[present] = averaged_thresholds(
            validation.labels[:, present], validation.scores[:, present], rule, drawn
        )
        count = len(validation.labels)
        origin = threshold_origin(rule, count, description.recipe, description.data)
    if settings.prevalence:
        origin += ", with the prevalence that is known"
    return thresholds, origin

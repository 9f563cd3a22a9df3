"""How thresholds are fitted to a model's validation clips, and what these clips are."""

from collections.abc import Mapping, Sequence
from typing import Any

from irmas_dist.config.decisions import RELATIVE_RULES, AggregationRule, ThresholdSettings
from irmas_dist.training.records import DataRecord


def for_validation(
    settings: ThresholdSettings,
    aggregations: Sequence[AggregationRule],
    recipe: Mapping[str, Any],
    data: DataRecord,
) -> ThresholdSettings:
    """Return how thresholds are fitted to a model's validation clips.

    Only mixtures of held-out groups have more evidence than other sources. Clips to validate on,
    held-out clips as they are, and held-out sources stand for what is to come. Scores that are
    relative to the surest instrument have no log-odds.

    Args:
        settings: As in the recipe, or instead of it.
        aggregations: Of the windows of the model, or of each of an ensemble's.
        recipe: As in ``model.json``.
        data: What the model was made from.
    """
    validation = recipe.get("validation", {})
    mixed = validation.get("mixed", True) and not data.validated_on
    by_group = validation.get("by", "group") == "group"
    relative = all(rule in RELATIVE_RULES for rule in aggregations)
    if mixed and by_group and not relative:
        return settings
    return settings.model_copy(update={"evidence": 1.0})


def for_adapted(settings: ThresholdSettings, share: float, match: float) -> ThresholdSettings:
    """Return how thresholds of an adapted model are fitted to its validation clips.

    An adapted network no longer meets unfamiliar sources; where logits are matched, too, thresholds
    are those of expected figures.

    Args:
        settings: As from `for_validation`.
        share: Of the statistics of batch normalisation that are the audio's.
        match: How far logits are matched.
    """
    return settings.model_copy(update={"evidence": 1.0}) if share and not match else settings


def threshold_origin(
    settings: ThresholdSettings,
    clips: int,
    recipe: Mapping[str, Any],
    data: DataRecord,
) -> str:
    """Describe the clips of fitted thresholds, and how they were fitted.

    Args:
        settings: As from `for_validation`.
        clips: Number of validation clips.
        recipe: As in ``model.json``.
        data: What the model was made from.
    """
    evidence = f"; evidence {settings.evidence:g}" if settings.evidence < 1 else ""
    return f"{clips} {validated_on(recipe, data)} ({settings.summary}{evidence})"


def validated_on(recipe: Mapping[str, Any], data: DataRecord) -> str:
    """Describe the validation clips of a model."""
    if stores := len(data.validated_on):
        return f"clips of {'a store' if stores == 1 else f'{stores} stores'} to validate on"
    mixed = recipe.get("validation", {}).get("mixed", True)
    if data.own_validation:
        return "mixtures of validation clips" if mixed else "validation clips"
    return "mixtures of held-out training clips" if mixed else "held-out clips"

"""Settings of the adaptation of a model to audio without labels."""

from pydantic import Field

from irmas_dist.config.base import Settings


class AdaptationSettings(Settings):
    """How far a model is adapted to audio of its user."""

    share: float = Field(0.5, ge=0.0, le=1.0)
    """Share that the audio has in the statistics of batch normalisation."""
    match: float = Field(0.8, ge=0.0, le=1.0)
    """How far, from 0 (not at all) to 1 (all the way), the mean and the standard deviation of each
    instrument's logits are moved to those of the validation clips."""
    prevalence: dict[str, float] = Field(default_factory=dict)
    """Share of the clips in which an instrument plays, by code, where it is known; others are as
    frequent as in the validation clips."""

"""Settings of what is changed at random in training examples.

Training clips of IRMAS carry one label, test excerpts up to five. Power spectra of independent
sources add, so adding mel power of several clips makes the multilabel examples that the
training set lacks. The other changes stand for what a recording has by chance: its level, the
colour that microphone, room and instrument maker give it, its key, its tempo, its noise.
"""

from pydantic import Field, field_validator

from irmas_dist.config.base import Settings

NOISE_LIMIT_DB = 60.0
"""Signal-to-noise ratio at which noise makes no difference any more."""


class MixSettings(Settings):
    """How several clips become one multilabel example."""

    counts: tuple[float, ...] = Field((1_236, 1_278, 318, 39, 3), min_length=1)
    """Relative frequency of examples with 1, 2, 3, … clips; the default is that of the labels in
    the IRMAS test excerpts. A single entry turns mixing off."""
    level_db: float = Field(8.0, ge=0.0, le=60.0)
    """Each clip of a mixture is turned down by a random level of up to this much."""

    @field_validator("counts")
    @classmethod
    def _are_weights(cls, counts: tuple[float, ...]) -> tuple[float, ...]:
        if min(counts) < 0 or sum(counts) <= 0:
            raise ValueError("the frequencies must not be negative, and not all of them 0")
        return counts


class AugmentSettings(Settings):
    """Random changes to training examples; 0 turns any of them off."""

    mix: MixSettings = MixSettings()
    gain_db: float = Field(6.0, ge=0.0, le=60.0)
    """Every example is turned up or down by a random level of up to this much."""
    equalise_db: float = Field(6.0, ge=0.0, le=30.0)
    """Standard deviation of the smooth random curve over the bands by which every clip is
    filtered before it is mixed."""
    equalise_order: int = Field(6, ge=1, le=32)
    """Cosines that such a curve is made of: the first tilts it, the last has half as many
    periods over all bands."""
    pitch_semitones: float = Field(1.0, ge=0.0, le=12.0)
    """Every clip is moved up or down in pitch, formants and all, by up to this much."""
    tempo: float = Field(0.0, ge=0.0, le=0.5)
    """Every clip is made faster or slower by up to this share; 0.1 is 10 %."""
    noise_snr_db: float = Field(0.0, ge=0.0, le=NOISE_LIMIT_DB)
    """Lowest ratio of an example to the steady noise of a random colour that is added to it; the
    ratio is drawn between this and 60 dB."""
    frequency_mask: int = Field(0, ge=0)
    """Widest run of mel bands that is blanked out in an example (SpecAugment, Park et al. 2019)."""
    frequency_masks: int = Field(1, ge=1, le=8)
    """How many such runs."""
    time_mask: int = Field(0, ge=0)
    """Longest run of frames that is blanked out in an example (ibid.)."""
    time_masks: int = Field(1, ge=1, le=8)
    """How many such runs."""

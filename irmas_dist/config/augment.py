"""Settings of data augmentation: random changes to training examples.

Training clips of IRMAS carry one label, test excerpts up to five. Power spectra of independent
sources add, so adding the mel power of several clips gives the multilabel examples that the
training set lacks. The other changes vary what is incidental to a recording: level, spectral
colour of microphone, room and instrument maker, key, tempo and noise.
"""

from pydantic import Field, field_validator

from irmas_dist.config.base import Settings

NOISE_LIMIT_DB = 60.0
"""Signal-to-noise ratio above which noise makes no difference."""


MOST_COSINES = 32
"""Largest number of cosines in the curve of an equalisation."""


class MixSettings(Settings):
    """How several clips become one multilabel example."""

    counts: tuple[float, ...] = Field((1_236, 1_278, 318, 39, 3), min_length=1)
    """Relative frequency of examples with 1, 2, 3, … instruments, and as many clips where each has
    one; the default is that of the labels in the IRMAS test excerpts. A single entry turns mixing
    off."""
    level_db: float = Field(8.0, ge=0.0, le=60.0)
    """Each clip of a mixture is attenuated by a random level of up to this much."""

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
    """Every example is amplified or attenuated by a random level of up to this much."""
    equalise_db: float = Field(6.0, ge=0.0, le=30.0)
    """Standard deviation of the smooth random curve over the bands by which every clip is
    filtered before it is mixed."""
    equalise_order: int = Field(6, ge=1, le=MOST_COSINES)
    """Number of cosines in such a curve: the k-th has k / 2 periods over all bands."""
    pitch_semitones: float = Field(1.0, ge=0.0, le=12.0)
    """Every clip is shifted in pitch, formants included, by up to this much."""
    tempo: float = Field(0.0, ge=0.0, le=0.5)
    """Every clip is made faster or slower by up to this share; 0.1 is 10 %."""
    noise_snr_db: float = Field(0.0, ge=0.0, le=NOISE_LIMIT_DB)
    """Lowest signal-to-noise ratio of an example; stationary noise of a random colour is added at a
    ratio between this and 60 dB."""
    frequency_mask: int = Field(0, ge=0)
    """Maximum width of a mask over mel bands (SpecAugment, Park et al. 2019)."""
    frequency_masks: int = Field(1, ge=1, le=8)
    """Number of such masks."""
    time_mask: int = Field(0, ge=0)
    """Maximum length of a mask over frames (ibid.)."""
    time_masks: int = Field(1, ge=1, le=8)
    """Number of such masks."""

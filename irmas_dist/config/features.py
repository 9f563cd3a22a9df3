"""Settings of the log-mel spectrogram, for both backends."""

import math
from typing import Literal

from pydantic import Field, model_validator

from irmas_dist.config.base import Settings

MAX_REJECTS = 0.05
"""Share of unusable files above which the fault lies with more than single files."""


SILENT_POWER = 20.0
"""A window is silent when none of its bands has more than this many times the power of the floor.
At the default settings this is white noise 85 dB below a clip's peak, such as 16-bit dither. What
resampling leaves of a sound in the silence next to it stays below."""


class LogMelSettings(Settings):
    """Settings of the log-mel spectrogram; those of Han et al. (2016) are in ``han2016``."""

    sample_rate: int = Field(22_050, ge=1_000, le=192_000)
    """Rate to which audio is resampled, in Hz."""
    downmix: Literal["mean", "first"] = "mean"
    """How channels are mixed to mono: their mean, or the first one alone."""
    peak_normalise: bool = True
    """Whether a clip is divided by its largest absolute sample after resampling. Without it,
    samples keep their level, even beyond full scale."""
    n_fft: int = Field(2_048, ge=16, le=65_536)
    """Length of a frame and its FFT, in samples."""
    hop_length: int = Field(1_024, ge=1)
    """Samples from one frame to the next."""
    window: Literal["hann", "hamming", "blackman", "bartlett"] = "hann"
    """Periodic window applied to every frame."""
    power: float = Field(2.0, gt=0.0, le=4.0)
    """Exponent of the magnitudes that a band sums: 1 for magnitude, 2 for power."""
    bands: int = Field(64, ge=8, le=1_024)
    """Number of mel bands."""
    fmin: float = Field(0.0, ge=0.0)
    """Lower edge of the lowest band, in Hz."""
    fmax: float | None = Field(None, gt=0.0)
    """Upper edge of the highest band, in Hz; by default half the sample rate."""
    mel_scale: Literal["slaney", "htk"] = "slaney"
    """Slaney's scale is linear up to 1 kHz, HTK's is logarithmic throughout."""
    floor: float = Field(1e-8, ge=1.2e-38, le=1.0)
    """Lower limit of band values before the logarithm. They are of type float32, in which smaller
    floors are denormal or 0."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored natural logarithms; float16 is accurate to 0.02 dB."""
    backend: Literal["fast", "librosa"] = "fast"
    """The fast implementation, or librosa, the reference."""

    @model_validator(mode="after")
    def _in_range(self) -> "LogMelSettings":
        if not self.fmin < self.top <= self.sample_rate / 2:
            raise ValueError(
                f"fmin {self.fmin:g} Hz and fmax {self.top:g} Hz must be in order "
                f"and at most half the sample rate, {self.sample_rate / 2:g} Hz"
            )
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length {self.hop_length} exceeds n_fft {self.n_fft}")
        return self

    @property
    def top(self) -> float:
        """Upper edge of the highest band, in Hz."""
        return self.fmax or self.sample_rate / 2

    @property
    def frames_per_second(self) -> float:
        """Frames in one second of audio."""
        return self.sample_rate / self.hop_length

    @property
    def log_floor(self) -> float:
        """The smallest value in a spectrogram: silence."""
        return math.log(self.floor)

    @property
    def silence(self) -> float:
        """A window none of whose values exceeds this is silent, see `SILENT_POWER`."""
        return self.log_floor + math.log(SILENT_POWER) / self.log_power_per_unit

    @property
    def log_power_per_unit(self) -> float:
        """Natural logarithm of power in one unit of a stored value.

        ``np.exp(log_power_per_unit * stored)`` is power, in which independent sources add:
        1 for logarithms of power, 2 for logarithms of magnitude.
        """
        return 2 / self.power

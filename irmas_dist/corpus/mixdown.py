"""Channels to one, what is silence, and what is done where channels cancel each other.

Silence has no instrument: a file none of whose samples reaches `SILENCE` is silent, whatever noise
it has. Two channels of opposite sign cancel in their mean, which leaves silence or what is left of
a codec's errors; the louder of them is used then.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import reduce
from numbers import Real
from typing import Any, Literal

import numpy as np

from irmas_dist.corpus.audio import Float32, Samples
from irmas_dist.errors import AudioError

SILENCE = 2.0**-12
"""Full scale is 1: -72 dBFS. 16-bit audio has three bits left there, and what remains of a
recording is its dither and rounding."""

SILENT = f"silent: no sample reaches {20 * np.log10(SILENCE):.0f} dBFS"
"""What is said of a silent file."""

MOST_CHANNELS = 32
"""Channels beyond which an array with fewer samples must have its axes swapped."""

CANCELLED = 1e-3
"""Channels cancel when their sum has less than this share of the power that the sum of unrelated
channels has: -30 dB. It has more in all music that is meant to be heard in mono: 1 where only one
channel has sound, and as many times more as there are channels where all are the same."""

LOUDEST = 1e6
"""Full scale is 1: +120 dBFS. Beyond it samples are no audio, and their power is soon infinite."""

Downmix = Literal["mean", "first"]


class Mixdown:
    """Mixes the channels of a file to one, block by block, and knows at its end how loud it was.

    Args:
        downmix: The mean of the channels, or the first one alone.
        channel: The channel, from 0, that is used instead; None uses ``downmix``.

    Attributes:
        peak: Largest magnitude of the result so far, full scale at 1.
    """

    def __init__(self, downmix: Downmix, channel: int | None = None) -> None:
        self.channel = 0 if downmix == "first" and channel is None else channel
        self._chosen = channel
        self.peak = 0.0
        # Power of the sum of the channels, of all of them, and of each where they cancel.
        self._of_sum = self._of_all = 0.0
        self._of_each = np.zeros(1)

    def __call__(self, samples: Samples) -> Float32:
        """Mix samples of shape (samples,) or (samples, channels), int16 or float at full scale 1.

        Returns:
            Samples of shape (samples,).

        Raises:
            AudioError: Some samples are NaN, infinite, or beyond `LOUDEST`.
        """
        columns = samples[:, None] if samples.ndim == 1 else samples
        if self.channel is not None:
            columns = columns[:, self.channel : self.channel + 1]
        scale = 1 / columns.shape[1]
        if samples.dtype == np.int16:
            scale /= 32_768
        columns = columns.astype(np.float32, copy=False)
        # Channel by channel: a mean along the short axis is twenty times slower.
        total: Float32 = reduce(np.add, columns.T)
        mono = total * np.float32(scale) if scale != 1 else total
        if samples.dtype != np.int16 and not np.isfinite(mono).all():
            raise AudioError("holds NaN or infinite samples")
        self.peak = max(self.peak, peak_of(mono))
        if self.peak > LOUDEST:
            raise AudioError(f"holds samples {self.peak:.0e} times as large as full scale")
        if columns.shape[1] > 1:
            of_sum, of_all = float(total @ total), float(columns.ravel() @ columns.ravel())
            self._of_sum += of_sum
            self._of_all += of_all
            if of_sum < CANCELLED * of_all:  # as in one block at least, if it is so in the file
                self._of_each = self._of_each + (columns * columns).sum(axis=0)
        return mono

    @property
    def silent(self) -> bool:
        """Whether no sample so far has reached `SILENCE`."""
        return self.peak < SILENCE

    @property
    def louder(self) -> int | None:
        """The loudest channel, from 0, if the channels so far cancel each other."""
        return int(self._of_each.argmax()) if self._of_sum < CANCELLED * self._of_all else None

    @property
    def note(self) -> str | None:
        """One line on what is unusual of the audio so far."""
        if self.silent:
            return SILENT
        if self._chosen is None:
            return None
        return f"its channels cancel each other: the louder, channel {self._chosen + 1}, is used"


def check_samples(audio: Any, sample_rate: int | None) -> tuple[Samples, int]:
    """Return samples that a caller gives, as an array, and their rate.

    Args:
        audio: Anything of shape (samples,) or (samples, channels) that numpy takes for an array.
        sample_rate: In Hz.

    Raises:
        AudioError: There are no samples, or they have another shape or type, or no rate.
    """
    try:
        samples = np.asarray(audio)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(f"cannot be read as an array of samples: {error}") from error
    if sample_rate is None:
        raise AudioError("an array of samples needs its sample rate")
    if not isinstance(sample_rate, Real) or not 1 < sample_rate < np.inf:
        raise AudioError(f"a sample rate of {sample_rate!r} is none in Hz")
    if not samples.dtype.isnative:
        samples = samples.astype(samples.dtype.newbyteorder("="))
    if samples.dtype != np.int16 and samples.dtype.kind != "f":
        raise AudioError(
            f"samples of type {samples.dtype} are neither int16 nor float with full scale at 1"
        )
    swapped = samples.ndim == 2 and samples.shape[1] > max(len(samples), MOST_CHANNELS)
    if samples.ndim not in (1, 2) or (swapped and samples.size):
        raise AudioError(
            f"an array of shape {samples.shape} is not one of (samples,) or (samples, channels)"
            + ("; swap its axes" if swapped else "")
        )
    if samples.size == 0:
        raise AudioError("holds no samples")
    return samples, sample_rate


def mix_down(samples: Samples, downmix: Downmix) -> tuple[Float32, str | None]:
    """Mix the samples of a whole file to one channel.

    Args:
        samples: Shape (samples,) or (samples, channels), int16 or float.
        downmix: The mean of the channels, or the first one alone.

    Returns:
        Samples of shape (samples,), full scale at 1, all 0 if the file is silent, and one line
        on what is unusual of it.

    Raises:
        AudioError: Some samples are NaN, infinite, or beyond `LOUDEST`.
    """
    mixdown = Mixdown(downmix)
    mono = mixdown(samples)
    if mixdown.louder is not None:
        mixdown = Mixdown(downmix, mixdown.louder)
        mono = mixdown(samples)
    return np.zeros_like(mono) if mixdown.silent else mono, mixdown.note


def survey(blocks: Callable[[], Iterable[Samples]]) -> Mixdown:
    """Return the `Mixdown` to the mean of a file of any length, after its last block.

    Args:
        blocks: Returns the file's blocks from its beginning; called again if channels cancel.
    """
    mixdown = Mixdown("mean")
    deque(map(mixdown, blocks()), maxlen=0)
    if mixdown.louder is not None:
        mixdown = Mixdown("mean", mixdown.louder)
        deque(map(mixdown, blocks()), maxlen=0)
    return mixdown


def peak_of(samples: Float32) -> float:
    """Return the largest magnitude, 0 of no samples."""
    return max(float(samples.max()), -float(samples.min())) if samples.size else 0.0

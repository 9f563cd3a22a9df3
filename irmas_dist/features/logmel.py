"""The front end: audio in any format to a log-mel spectrogram.

Decode with libsndfile, mix the channels down, resample with soxr at high quality, divide by
the peak, frame with zero padding, FFT, power, mel bands, logarithm. The same numbers as
librosa's ``melspectrogram(center=True, pad_mode="constant")``, several times faster: samples stay
16-bit until the channels are one, mel filters are sparse, nothing is copied to be transposed,
and freed memory is kept. All of it is numpy, scipy and soxr: torch is no quicker on the whole,
and its import would cost every worker process as much as two thousand clips.

Files of more than some 20 s are decoded, resampled and transformed block by block, so that
memory does not grow with them but for the result.
"""

import os
from collections.abc import Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt
import scipy.fft
import soxr

from irmas_dist.config.features import LogMelSettings
from irmas_dist.features.audio import (
    AudioError,
    Float32,
    Samples,
    Source,
    in_one_block,
    joined,
    open_audio,
    read_audio,
    read_blocks,
    to_mono,
)
from irmas_dist.features.mel import kernels

__all__ = ["AudioError", "LogMel", "LogMelSettings", "Samples", "log_mel", "log_mel_blocks"]
__all__ += ["read_audio"]

LogMel = npt.NDArray[np.float16] | Float32

WINDOWED_SAMPLES = 2**20
"""Samples in the frames that are transformed at once: 4 MB, and as much for their spectra."""

# glibc hands freed memory back to the system at once, and every clip would fetch it anew, page
# by page, for a third of its time. Having freed a block of almost 32 MB, it keeps 64 MB.
np.empty(2**25 - 2**13, np.uint8)


def log_mel(
    audio: Source | Samples, settings: LogMelSettings, sample_rate: int | None = None
) -> LogMel:
    """Return the log-mel spectrogram of a file, a stream or an array.

    Args:
        audio: Path or URL of an audio file, a binary stream, or samples of shape (samples,) or
            (samples, channels), int16 or float32 with full scale at 1. Float samples beyond 1
            are kept as they are: nothing is clipped, here or after resampling.
        settings: What to compute.
        sample_rate: Rate of the samples in Hz; only for arrays, which need it.

    Returns:
        Logarithm of mel power, shape (bands, frames), where ``frames`` is
        ``1 + samples // hop_length`` (for an even ``n_fft``) with
        ``samples = ceil(seconds * settings.sample_rate)``. Besides the result and about 60 MB, as
        much memory as the result takes as float32 is needed while a long file is under way.

    Raises:
        AudioError: The audio cannot be decoded, is empty or cut short, or holds NaN or infinite
            samples.
    """
    if isinstance(audio, np.ndarray):
        if sample_rate is None:
            raise AudioError("an array of samples needs its sample rate")
        if len(audio) == 0:
            raise AudioError("holds no samples")
        return _log_mel(iter([audio]), sample_rate, settings)
    with open_audio(audio) as file:
        return _log_mel(read_blocks(file), file.samplerate, settings)


def log_mel_blocks(source: Source, settings: LogMelSettings) -> Iterator[LogMel]:
    """Yield the log-mel spectrogram of a file or stream of any length, piece by piece.

    Memory is bounded by about 60 MB, whatever the length. With ``peak_normalise``, a long file
    is read twice, first for its peak. A stream cannot be: its pieces are divided by the largest
    sample so far, and are those of `log_mel` from the loudest one on.

    Args:
        source: Path or URL of an audio file, or a binary stream such as ``sys.stdin.buffer``.
        settings: What to compute; always by the fast path.

    Yields:
        Arrays of shape (bands, frames), with at least one frame each.

    Raises:
        AudioError: As `log_mel` does, when it comes to the place.
    """
    peak = 0.0
    if settings.peak_normalise and isinstance(source, str | os.PathLike):
        peak = _peak_of_long(source, settings)
    with open_audio(source) as file:
        for mel, _ in _mel_blocks(read_blocks(file), file.samplerate, settings, peak):
            yield _logarithm(mel, settings)


def _peak_of_long(path: str | os.PathLike[str], settings: LogMelSettings) -> float:
    """Return the largest sample of a file; 0 for one that comes in a single block."""
    with open_audio(path) as file:
        if in_one_block(file):
            return 0.0
        mono = (to_mono(block, settings.downmix) for block in read_blocks(file))
        return max(_peak(block) for block in _resampled(mono, file.samplerate, settings))


def _log_mel(blocks: Iterator[Samples], rate: int, settings: LogMelSettings) -> LogMel:
    if settings.backend == "librosa":
        # Imported by those alone who ask for it: librosa takes seconds.
        from irmas_dist.features.librosa_reference import mel_by_librosa

        return _logarithm(mel_by_librosa(joined(blocks), rate, settings), settings)
    parts = list(_mel_blocks(blocks, rate, settings))
    if len(parts) == 1:
        return _logarithm(parts[0][0], settings)
    loudest = parts[-1][1]
    result: LogMel = np.empty(
        (settings.bands, sum(mel.shape[1] for mel, _ in parts)), settings.dtype
    )
    at = result.shape[1]
    while parts:  # from the end, so that each part is freed as soon as it is in the result
        mel, peak = parts.pop()
        mel *= np.float32((peak / loudest) ** settings.power)
        at -= mel.shape[1]
        result[:, at : at + mel.shape[1]] = _logarithm(mel, settings)
    return result


def _logarithm(mel: Float32, settings: LogMelSettings) -> LogMel:
    """Mel values to what is stored; overwrites them."""
    np.maximum(mel, np.float32(settings.floor), out=mel)
    np.log(mel, out=mel)
    if settings.log_scale != 1:
        mel *= np.float32(settings.log_scale)
    return mel.astype(settings.dtype, copy=False)


def _mel_blocks(
    blocks: Iterator[Samples], rate: int, settings: LogMelSettings, peak: float = 0.0
) -> Iterator[tuple[Float32, float]]:
    """Mel values, shape (bands, frames), and the peak so far that they are relative to.

    That is the one given, as long as no larger sample comes.
    """
    window, filters = kernels(settings)
    size, hop = settings.n_fft, settings.hop_length
    at_once = max(WINDOWED_SAMPLES // size, 1)
    waiting = np.zeros(0, np.float32)
    mono = (to_mono(block, settings.downmix) for block in blocks)
    for block in _padded(_resampled(mono, rate, settings), size // 2):
        if settings.peak_normalise:
            peak = max(peak, _peak(block))
        scaled = window * np.float32(1 / peak) if peak else window
        waiting = np.concatenate([waiting, block]) if waiting.size else block
        count = max((len(waiting) - size) // hop + 1, 0)
        for first in range(0, count, at_once):
            # As as_strided does it, in a tenth of the time.
            frames = np.ndarray(
                (min(at_once, count - first), size),
                np.float32,
                waiting[first * hop :],
                strides=(hop * waiting.itemsize, waiting.itemsize),
            )
            yield filters @ _spectrum(frames * scaled, settings.power), peak or 1.0
        waiting = waiting[count * hop :]


def _peak(block: Float32) -> float:
    return max(float(block.max()), -float(block.min())) if block.size else 0.0


def _spectrum(frames: Float32, power: float) -> Float32:
    """Magnitude to the given power of frames of shape (frames, n_fft), (bins, frames)."""
    spectrum = scipy.fft.rfft(frames.T, axis=0)
    parts = spectrum.view(np.float32)
    parts *= parts
    squares: Float32 = parts[:, ::2] + parts[:, 1::2]
    if power == 1:
        return np.sqrt(squares, out=squares)
    return squares if power == 2 else squares ** np.float32(power / 2)


def _resampled(blocks: Iterator[Float32], rate: int, settings: LogMelSettings) -> Iterator[Float32]:
    """The blocks at another rate, ``ceil(samples * ratio)`` samples in all, as librosa counts."""
    target = settings.sample_rate
    if rate == target:
        yield from blocks
        return
    first, second = next(blocks), next(blocks, None)
    if second is None:
        # Somewhat quicker in one go.
        whole = soxr.resample(first, rate, target, quality="HQ")
        yield _of_length(whole, _ceil(len(first), rate, target))
        return
    stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
    taken = given = 0
    for block in chain([first, second], blocks):
        made = stream.resample_chunk(block)
        taken += len(block)
        given += len(made)
        yield made
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    yield _of_length(rest, _ceil(taken, rate, target) - given)


def _padded(blocks: Iterator[Float32], margin: int) -> Iterator[Float32]:
    """The blocks with zeros before the first and after the last one."""
    zeros = np.zeros(margin, np.float32)
    held = [zeros, next(blocks)]
    for block in blocks:
        yield np.concatenate(held)
        held = [block]
    yield np.concatenate([*held, zeros])


def _ceil(samples: int, rate: int, target: int) -> int:
    return int(np.ceil(samples * (target / rate)))


def _of_length(samples: Float32, length: int) -> Float32:
    """Cut off or pad with zeros what rounding adds or leaves out."""
    return (
        np.pad(samples, (0, length - len(samples))) if length > len(samples) else samples[:length]
    )

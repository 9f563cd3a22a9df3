"""The front end: audio in any format to a log-mel spectrogram.

Computes the numbers of librosa's ``melspectrogram(center=True, pad_mode="constant")``, several
times faster: samples stay 16-bit until they are mono, the mel filters are sparse, and freed
memory is reused. It needs numpy, scipy and soxr only: torch is no faster here, and importing it
costs a worker process as much time as two thousand clips.

Files of more than about 20 s are decoded, resampled and transformed in blocks, so that only the
result grows with their length.
"""

import os
from collections.abc import Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt
import scipy.fft
import soundfile
import soxr
from numpy.lib.stride_tricks import as_strided

from irmas_dist.config.features import LogMelSettings
from irmas_dist.features.audio import (
    AudioError,
    AudioSource,
    Float32,
    Samples,
    in_one_block,
    open_audio,
    read_blocks,
    read_samples,
    to_mono,
)
from irmas_dist.features.mel import kernels

LogMel = npt.NDArray[np.float16] | Float32

BATCH_SAMPLES = 2**20
"""Samples in the frames that are transformed at once: 4 MB, and 4 MB for their spectra."""

# glibc returns freed memory to the system, and each clip would fault it in again, page by page,
# for a third of its time. Once a block of almost 32 MB has been freed, glibc keeps 64 MB.
np.empty(2**25 - 2**13, np.uint8)


def log_mel(
    audio: AudioSource | Samples, settings: LogMelSettings, sample_rate: int | None = None
) -> LogMel:
    """Return the log-mel spectrogram of a file, a stream or an array.

    Args:
        audio: Path or URL of an audio file, a binary stream, or samples of shape (samples,) or
            (samples, channels), int16 or float32 with full scale at 1. Float samples beyond 1
            are not clipped, neither before nor after resampling.
        settings: What to compute.
        sample_rate: Sample rate in Hz; required for arrays, unused otherwise.

    Returns:
        Natural logarithm of mel power, shape (bands, frames), where ``frames`` is
        ``1 + samples // hop_length`` (for an even ``n_fft``) with
        ``samples = ceil(seconds * settings.sample_rate)``. A long file needs about 60 MB of
        memory beside the result, and as much as the result takes as float32.

    Raises:
        AudioError: The audio cannot be decoded, is empty or truncated, or has NaN or infinite
            samples.
    """
    if isinstance(audio, np.ndarray):
        samples, rate = audio, sample_rate
    else:
        with open_audio(audio) as file:
            if settings.backend == "fast" and not in_one_block(file):
                return _log_mel_of_long_file(file, settings)
            samples, rate = read_samples(file), file.samplerate
    if rate is None:
        raise AudioError("an array of samples needs its sample rate")
    if len(samples) == 0:
        raise AudioError("holds no samples")
    if settings.backend == "librosa":
        # Imported on demand: librosa takes seconds to import.
        from irmas_dist.features.librosa_reference import mel_by_librosa

        return _logarithm(mel_by_librosa(samples, rate, settings), settings)
    mono = to_mono(samples, settings.downmix)
    mono = _resample(mono, rate, settings.sample_rate)
    window, filters = kernels(settings)
    if settings.peak_normalise:
        window = _divided(window, _peak(mono))
    margin = np.zeros(settings.n_fft // 2, np.float32)
    frames = _frames(np.concatenate([margin, mono, margin]), settings)
    batches = _batches(frames)
    mel = np.hstack([filters @ _power(batch * window, settings.power) for batch in batches])
    return _logarithm(mel, settings)


def log_mel_blocks(source: AudioSource, settings: LogMelSettings) -> Iterator[LogMel]:
    """Yield the log-mel spectrogram of a file or stream of any length in consecutive pieces.

    Needs about 60 MB of memory, whatever the length. With ``peak_normalise``, a long file is
    read twice, first for its peak. A stream cannot be: each of its pieces is divided by the
    largest sample so far, and agrees with `log_mel` from the loudest sample on.

    Args:
        source: Path or URL of an audio file, or a binary stream such as ``sys.stdin.buffer``.
        settings: What to compute; long files always use the fast backend.

    Yields:
        Arrays of shape (bands, frames), with at least one frame each.

    Raises:
        AudioError: As in `log_mel`, when the faulty block is reached.
    """
    with open_audio(source) as file:
        if in_one_block(file):
            yield log_mel(read_samples(file), settings, file.samplerate)
            return
        peak = 0.0
        if settings.peak_normalise and isinstance(source, str | os.PathLike):
            with open_audio(source) as first_pass:
                peak = max(map(_peak, _mono_blocks(first_pass, settings)))
        for mel, _ in _mel_blocks(file, settings, peak):
            yield _logarithm(mel, settings)


def _log_mel_of_long_file(file: soundfile.SoundFile, settings: LogMelSettings) -> LogMel:
    """Return what `log_mel` does, decoding the file once and in blocks."""
    parts = list(_mel_blocks(file, settings))
    peak_of_file = parts[-1][1]
    end = sum(mel.shape[1] for mel, _ in parts)
    result: LogMel = np.empty((settings.bands, end), settings.dtype)
    while parts:  # backwards, to free each part once it has been copied
        mel, peak = parts.pop()
        mel *= np.float32((peak / peak_of_file) ** settings.power)
        result[:, end - mel.shape[1] : end] = _logarithm(mel, settings)
        end -= mel.shape[1]
    return result


def _mel_blocks(
    file: soundfile.SoundFile, settings: LogMelSettings, peak: float = 0.0
) -> Iterator[tuple[Float32, float]]:
    """Yield mel power, shape (bands, frames), and the peak that its samples were divided by.

    The peak is the largest sample so far, ``peak`` included; 1 without normalisation.
    """
    window, filters = kernels(settings)
    held = margin = np.zeros(settings.n_fft // 2, np.float32)
    for block in chain(_mono_blocks(file, settings), [margin]):
        if settings.peak_normalise:
            peak = max(peak, _peak(block))
        held = np.concatenate([held, block])
        frames = _frames(held, settings)
        scaled = _divided(window, peak)
        for batch in _batches(frames):
            yield filters @ _power(batch * scaled, settings.power), peak or 1.0
        held = held[len(frames) * settings.hop_length :]


def _mono_blocks(file: soundfile.SoundFile, settings: LogMelSettings) -> Iterator[Float32]:
    """Yield a file's samples as one channel at the rate of the settings, shape (samples,)."""
    mono = (to_mono(block, settings.downmix) for block in read_blocks(file))
    rate, target = file.samplerate, settings.sample_rate
    if rate == target:
        yield from mono
        return
    stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
    read = written = 0
    for block in mono:
        resampled = stream.resample_chunk(block)
        read += len(block)
        written += len(resampled)
        yield resampled
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    yield _of_length(rest, int(np.ceil(read * (target / rate))) - written)


def _resample(samples: Float32, rate: int, target: int) -> Float32:
    """Return samples at another rate, ``ceil(samples * ratio)`` of them as librosa does."""
    if rate == target:
        return samples
    resampled = soxr.resample(samples, rate, target, quality="HQ")
    return _of_length(resampled, int(np.ceil(len(samples) * (target / rate))))


def _of_length(samples: Float32, length: int) -> Float32:
    """Drop or append the few samples by which rounding misses the length."""
    if length > len(samples):
        return np.pad(samples, (0, length - len(samples)))
    return samples[:length]


def _peak(samples: Float32) -> float:
    """Return the largest magnitude, 0 of no samples."""
    return max(float(samples.max()), -float(samples.min())) if samples.size else 0.0


def _divided(window: Float32, peak: float) -> Float32:
    """Divide the window, and thereby the frames, by a peak; silence stays as it is."""
    return window * np.float32(1 / peak) if peak else window


def _frames(samples: Float32, settings: LogMelSettings) -> Float32:
    """Return the complete frames of the samples as a view, shape (frames, n_fft)."""
    size, hop = settings.n_fft, settings.hop_length
    count = max((len(samples) - size) // hop + 1, 0)
    return as_strided(samples, (count, size), (hop * samples.itemsize, samples.itemsize))


def _batches(frames: Float32) -> Iterator[Float32]:
    """Split frames, shape (frames, n_fft), into batches of at most `BATCH_SAMPLES`."""
    size = max(BATCH_SAMPLES // frames.shape[1], 1)
    return (frames[first : first + size] for first in range(0, len(frames), size))


def _power(frames: Float32, exponent: float) -> Float32:
    """Return magnitude to the exponent, shape (bins, frames), of frames (frames, n_fft)."""
    spectrum = scipy.fft.rfft(frames.T, axis=0)
    parts = spectrum.view(np.float32)
    parts *= parts
    squares: Float32 = parts[:, ::2] + parts[:, 1::2]
    if exponent == 1:
        return np.sqrt(squares, out=squares)
    return squares if exponent == 2 else squares ** np.float32(exponent / 2)


def _logarithm(mel: Float32, settings: LogMelSettings) -> LogMel:
    """Return what is stored of mel power; overwrites its argument."""
    np.maximum(mel, np.float32(settings.floor), out=mel)
    np.log(mel, out=mel)
    return mel.astype(settings.dtype, copy=False)

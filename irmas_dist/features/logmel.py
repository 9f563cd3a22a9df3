"""The front end: audio in any format to a log-mel spectrogram.

Computes the numbers of librosa's ``melspectrogram(center=True, pad_mode="constant")``, several
times faster: samples stay 16-bit until they are mono, the mel filters are sparse, and freed
memory is reused. It needs numpy, scipy and soxr only: torch is no faster here, and importing it
costs a worker process as much time as two thousand clips.

Files of more than about 20 s are decoded, resampled and transformed in blocks, so that only the
result grows with their length.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from math import inf

import numpy as np
import numpy.typing as npt
import scipy.fft
import soxr
from numpy.lib.stride_tricks import as_strided

from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import AudioFile, Float32, Location, Samples, open_audio
from irmas_dist.corpus.mixdown import Mixdown, check_samples, mix_down, peak_of
from irmas_dist.features.mel import kernels

LogMel = npt.NDArray[np.float16] | Float32

BATCH_SAMPLES = 2**20
"""Samples in the frames that are transformed at once: 4 MB, and 4 MB for their spectra."""

FAINTEST = 1e-30
"""The least peak that samples are divided by: the reciprocal of a smaller one is no float32."""


def _unsaid(note: str) -> None:
    """Say nothing."""


def log_mel(
    audio: Location | AudioFile | Samples,
    settings: LogMelSettings,
    sample_rate: int | None = None,
    note: Callable[[str], None] = _unsaid,
    longest_s: float = inf,
) -> LogMel:
    """Return the log-mel spectrogram of a file, of a span of one, or of an array.

    Args:
        audio: Path or URL of an audio file, one that is open with a span selected, or samples of
            shape (samples,) or (samples, channels), int16 or float with full scale at 1. Float
            samples beyond 1 are not clipped, neither before nor after resampling.
        settings: What to compute.
        sample_rate: Sample rate in Hz; required for arrays, unused otherwise.
        note: Called with one line if the audio is silent, or its channels cancel each other.
        longest_s: Length in seconds of the longest file at a path or URL that is not refused.

    Returns:
        Natural logarithm of mel power, shape (bands, frames), where ``frames`` is
        ``1 + samples // hop_length`` (for an even ``n_fft``) with
        ``samples = ceil(seconds * settings.sample_rate)``. Silent audio has ``settings.log_floor``
        everywhere, whatever its noise. A long file needs about 60 MB of memory beside the result,
        and as much as the result takes as float32.

    Raises:
        AudioError: The audio cannot be decoded, is too long, empty or truncated, or has NaN or
            infinite samples; or an array has another shape or type, or no rate.
    """
    if isinstance(audio, str | os.PathLike):
        with open_audio(audio, longest_s=longest_s) as file:
            return log_mel(file, settings, note=note)
    if not isinstance(audio, AudioFile):
        samples, rate = check_samples(audio, sample_rate)
    else:
        blocks = audio.blocks()
        samples, rate = next(blocks), audio.sample_rate
        if rest := list(islice(blocks, 1)):
            blocks = chain([samples], rest, blocks)
            if settings.backend == "fast":
                return _log_mel_of_long_file(audio, blocks, settings, note)
            samples = np.concatenate(list(blocks))
    mono, said = mix_down(samples, settings.downmix)
    if said:
        note(said)
    if settings.backend == "librosa":
        # Imported on demand: librosa takes seconds to import.
        from irmas_dist.features.librosa_reference import mel_by_librosa

        return _logarithm(mel_by_librosa(mono if said else samples, rate, settings), settings)
    mono = _resample(mono, rate, settings.sample_rate)
    window, filters = kernels(settings)
    if settings.peak_normalise:
        window = _divided(window, max(peak_of(mono), FAINTEST))
    margin = np.zeros(settings.n_fft // 2, np.float32)
    frames = _frames(np.concatenate([margin, mono, margin]), settings)
    batches = _batches(frames)
    mel = np.hstack([filters @ _power(batch * window, settings.power) for batch in batches])
    return _logarithm(mel, settings)


def log_mel_blocks(
    location: Location,
    settings: LogMelSettings,
    note: Callable[[str], None] = _unsaid,
    longest_s: float = inf,
    held_s: float = 0.0,
) -> Iterator[LogMel]:
    """Yield the log-mel spectrogram of a file of any length in consecutive pieces.

    Needs about 60 MB of memory, whatever the length, beside what is held. A long file is decoded
    twice, first for its peak and its verdict, unless it is held in between. With the librosa
    backend there is one piece, and memory grows with the file.

    Args:
        location: Path or URL of an audio file.
        settings: What to compute.
        note: As in `log_mel`.
        longest_s: Likewise.
        held_s: Length in seconds up to which a file is held in memory, to decode it once.

    Yields:
        Arrays of shape (bands, frames), with at least one frame each.

    Raises:
        AudioError: As in `log_mel`, before the first piece.
    """
    if settings.backend == "librosa":
        yield log_mel(location, settings, note=note, longest_s=longest_s)
        return
    with open_audio(location, longest_s=longest_s) as file:
        blocks = file.blocks()
        samples = next(blocks)
        rest = list(islice(blocks, 1))
        if not rest:
            yield log_mel(samples, settings, file.sample_rate, note)
            return
        blocks = chain([samples], rest, blocks)
        del samples, rest
        mixdown = Mixdown(settings.downmix)
        peak, mono = _first_pass(blocks, file, settings, mixdown, held_s)
        if mixdown.louder is not None:
            mixdown = Mixdown(settings.downmix, mixdown.louder)
            peak, mono = _first_pass(file.blocks(), file, settings, mixdown, held_s)
        if mixdown.note:
            note(mixdown.note)
        silent = mixdown.silent
        again = mono or _mono_blocks(file.blocks(), file, settings.sample_rate, mixdown)
        for mel, _ in _mel_blocks(again, settings, peak):
            yield _logarithm(np.zeros_like(mel) if silent else mel, settings)


def _log_mel_of_long_file(
    file: AudioFile,
    blocks: Iterable[Samples],
    settings: LogMelSettings,
    note: Callable[[str], None],
) -> LogMel:
    """Return what `log_mel` does, decoding the file once and in blocks."""
    mixdown = Mixdown(settings.downmix)
    rate = settings.sample_rate
    parts = list(_mel_blocks(_mono_blocks(blocks, file, rate, mixdown), settings))
    if mixdown.louder is not None:
        mixdown = Mixdown(settings.downmix, mixdown.louder)
        parts = list(_mel_blocks(_mono_blocks(file.blocks(), file, rate, mixdown), settings))
    if mixdown.note:
        note(mixdown.note)
    peak_of_file = parts[-1][1]
    end = sum(mel.shape[1] for mel, _ in parts)
    result: LogMel = np.empty((settings.bands, end), settings.dtype)
    while parts:  # backwards, to free each part once it has been copied
        mel, peak = parts.pop()
        mel *= np.float32(0 if mixdown.silent else (peak / peak_of_file) ** settings.power)
        result[:, end - mel.shape[1] : end] = _logarithm(mel, settings)
        end -= mel.shape[1]
    return result


def _first_pass(
    blocks: Iterable[Samples],
    file: AudioFile,
    settings: LogMelSettings,
    mixdown: Mixdown,
    held_s: float,
) -> tuple[float, list[Float32]]:
    """Return the peak that samples are divided by, 0 without normalisation, and what is held.

    That is all of the file as one channel at the settings' rate, or nothing.
    """
    # Resampling changes peaks.
    rate = settings.sample_rate if settings.peak_normalise or held_s else file.sample_rate
    peak, held, samples = 0.0, list[Float32](), 0
    for block in _mono_blocks(blocks, file, rate, mixdown):
        peak = max(peak, peak_of(block))
        samples += len(block)
        if samples <= held_s * rate:
            held.append(block)
        else:
            held.clear()
    return peak if settings.peak_normalise else 0.0, held


def _mel_blocks(
    mono: Iterable[Float32], settings: LogMelSettings, peak: float = 0.0
) -> Iterator[tuple[Float32, float]]:
    """Yield mel power, shape (bands, frames), and the peak that its samples were divided by.

    The peak is the largest sample so far, ``peak`` included; 1 without normalisation.
    """
    window, filters = kernels(settings)
    held = margin = np.zeros(settings.n_fft // 2, np.float32)
    for block in chain(mono, [margin]):
        if settings.peak_normalise:
            peak = max(peak, peak_of(block), FAINTEST)
        held = np.concatenate([held, block])
        frames = _frames(held, settings)
        scaled = _divided(window, peak)
        for batch in _batches(frames):
            yield filters @ _power(batch * scaled, settings.power), peak or 1.0
        held = held[len(frames) * settings.hop_length :]


def _mono_blocks(
    blocks: Iterable[Samples], file: AudioFile, target: int, mixdown: Mixdown
) -> Iterator[Float32]:
    """Yield a file's blocks as one channel at the rate ``target``, shape (samples,)."""
    mono, rate = map(mixdown, blocks), file.sample_rate
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


def _divided(window: Float32, peak: float) -> Float32:
    """Divide the window, and thereby the frames, by a peak; by 0 they stay as they are."""
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

"""Audio files and streams to mono samples, all at once or in blocks.

libsndfile decodes. Two faults that it passes over are detected here: a file that ends before its
header says so, and samples that are not numbers.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import soundfile

from irmas_dist import storage
from irmas_dist.errors import IrmasError

Float32 = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16] | Float32
AudioSource = str | os.PathLike[str] | BinaryIO

BLOCK_SAMPLES = 2**20
"""Samples of every channel decoded at once: 24 s at 44.1 kHz, so that a clip is one block."""

_SIXTEEN_BITS = ("PCM_16", "PCM_S8", "PCM_U8")
_TRUNCATED = re.compile(
    # WAV, AIFF, AU, W64: the size of the chunk of samples by its header, and in the file.
    r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)"
    r"|^Ogg: Last page lacks an end-of-stream bit",
    re.MULTILINE,
)
_UNKNOWN_LENGTH = 0x7FFF0000
"""Writers into a pipe do not know the length and put about 2 or 4 GiB into the header."""


class AudioError(IrmasError):
    """A file or array without usable audio; the message is the reason."""


def read_audio(path: str | os.PathLike[str]) -> tuple[Samples, int]:
    """Decode an audio file.

    Args:
        path: Path or URL of a file in any format that libsndfile reads.

    Returns:
        Samples of shape (samples, channels), and their rate in Hz. Files of up to 16 bits give
        int16, which decodes several times faster; all others float32, nominally in [-1, 1].

    Raises:
        AudioError: The file is missing, empty, truncated, or not audio.
    """
    with open_audio(path) as file:
        return read_samples(file), file.samplerate


@contextmanager
def open_audio(source: AudioSource) -> Iterator[soundfile.SoundFile]:
    """Open audio for decoding.

    Args:
        source: Path or URL of a file, or a binary stream open for reading; a stream that cannot
            seek, such as a pipe, needs a file descriptor, and a streamable format: WAV or AU.

    Raises:
        AudioError: Now or while reading: the file does not exist, or cannot be decoded.
    """
    path = source if isinstance(source, str | os.PathLike) else None
    try:
        with soundfile.SoundFile(_readable(source), closefd=False) as file:
            yield file
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        if path is not None and not _exists(path):
            raise AudioError("no such file") from error
        reason = str(getattr(error, "error_string", error)).splitlines()[0]
        raise AudioError(f"cannot be decoded: {reason}") from error


def read_samples(file: soundfile.SoundFile) -> Samples:
    """Decode an open file to its end, as `read_audio` does."""
    blocks: list[Any] = list(read_blocks(file))
    samples: Samples = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
    return samples


def in_one_block(file: soundfile.SoundFile) -> bool:
    """Return whether a file is short enough for `read_blocks` to yield it as a single block."""
    return bool(file.frames <= BLOCK_SAMPLES)


def read_blocks(file: soundfile.SoundFile) -> Iterator[Samples]:
    """Decode a file in blocks of `BLOCK_SAMPLES`, of which the last may be shorter.

    Yields:
        Samples of shape (samples, channels) and the type that `read_audio` returns.

    Raises:
        AudioError: The file is empty, or ends before its header says so.
    """
    dtype = "int16" if file.subtype in _SIXTEEN_BITS else "float32"
    announced = _announced_length(file)
    length = 0
    while len(block := file.read(BLOCK_SAMPLES, dtype, always_2d=True)):
        length += len(block)
        yield block
    if length == 0:
        raise AudioError("holds no samples")
    if length < announced:
        raise AudioError(
            f"is truncated: its header announces {announced / file.samplerate:.2f} s, "
            f"but it ends after {length / file.samplerate:.2f} s"
        )


def to_mono(samples: Samples, downmix: Literal["mean", "first"]) -> Float32:
    """Mix channels to mono, with full scale at 1.

    Args:
        samples: Shape (samples,) or (samples, channels), int16 or float32.
        downmix: The mean of the channels, or the first one alone.

    Returns:
        Samples of shape (samples,).

    Raises:
        AudioError: Some samples are NaN or infinite.
    """
    columns = samples[:, None] if samples.ndim == 1 else samples
    if downmix == "first":
        columns = columns[:, :1]
    scale = 1 / columns.shape[1]
    if samples.dtype == np.int16:
        scale /= 32_768
    # Channel by channel: a mean along the short axis is twenty times slower.
    mono: Float32 = reduce(np.add, columns.astype(np.float32, copy=False).T)
    if scale != 1:
        mono = mono * np.float32(scale)
    if samples.dtype != np.int16 and not np.isfinite(mono).all():
        raise AudioError("holds NaN or infinite samples")
    return mono


def _readable(source: AudioSource) -> object:
    """Return what libsndfile can open: a path, a seekable stream, or a file descriptor."""
    if isinstance(source, str | os.PathLike):
        if not storage.is_url(source):
            return os.fsencode(source)  # A name on disk need not be UTF-8.
        filesystem, inner = storage.resolve(source)
        return filesystem.open_input_file(inner)
    return source if source.seekable() else source.fileno()


def _exists(path: str | os.PathLike[str]) -> bool:
    return storage.exists(path) if storage.is_url(path) else Path(path).exists()


def _announced_length(file: soundfile.SoundFile) -> int:
    """Return the number of samples that the header announces, 0 if it cannot know."""
    if not file.seekable():
        return 0
    # libsndfile takes most truncated files for shorter ones, and only logs the difference.
    if found := _TRUNCATED.search(file.extra_info):
        if found[1] is None:
            raise AudioError("is truncated: its last page is missing")
        announced, actual = map(int, found.groups())
        if actual < announced < _UNKNOWN_LENGTH:
            return int(file.frames * announced / max(actual, 1))
    return int(file.frames)

"""Audio files and streams to mono samples, all at once or block by block.

libsndfile decodes; what it passes over in silence is looked for here: a file that ends before
its header says so, samples that are not numbers.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
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
"""Samples of every channel decoded at once: 24 s at 44.1 kHz, so that clips come whole."""

_SIXTEEN_BITS = ("PCM_16", "PCM_S8", "PCM_U8")
_CUT_SHORT = re.compile(
    # WAV, AIFF, AU, W64: the size of the chunk that holds the samples, and what is there of it.
    r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)"
    r"|^Ogg: Last page lacks an end-of-stream bit",
    re.MULTILINE,
)
_UNKNOWN_LENGTH = 0x7FFF0000
"""Writers into a pipe cannot know the length, and put about 2 or 4 GiB into the header."""


class AudioError(IrmasError):
    """A file or array that holds no usable audio; the message says why."""


def read_audio(path: str | os.PathLike[str]) -> tuple[Samples, int]:
    """Decode an audio file.

    Args:
        path: Path or URL of a file in any format that libsndfile reads.

    Returns:
        Samples of shape (samples, channels), and their rate in Hz. Files of up to 16 bits give
        int16, which is several times quicker to decode; all others float32, nominally in [-1, 1].

    Raises:
        AudioError: The file is missing, empty, shorter than it says, or not audio.
    """
    with open_audio(path) as file:
        return joined(read_blocks(file)), file.samplerate


def joined(blocks: Iterable[Samples]) -> Samples:
    """Return blocks of samples as one array."""
    parts: list[Any] = list(blocks)
    whole: Samples = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return whole


@contextmanager
def open_audio(source: AudioSource) -> Iterator[soundfile.SoundFile]:
    """Open audio for decoding.

    Args:
        source: Path or URL of a file, or a binary stream open for reading; one that cannot
            seek, such as a pipe, needs a file descriptor, and a format made for it: WAV or AU.

    Raises:
        AudioError: Now or while reading: there is no such file, or it cannot be decoded.
    """
    path = source if isinstance(source, str | os.PathLike) else None
    try:
        with soundfile.SoundFile(_readable(source), closefd=False) as file:
            yield file
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        if path is not None and not storage.exists(path):
            raise AudioError("no such file") from error
        reason = str(error).splitlines()[0].removeprefix(f"Error opening {source!r}: ")
        raise AudioError(f"cannot be decoded: {reason}") from error


def read_blocks(file: soundfile.SoundFile, size: int | None = None) -> Iterator[Samples]:
    """Decode a file from where it stands.

    Args:
        file: What `open_audio` gave.
        size: Samples of every channel in a block, the last one excepted.

    Yields:
        Samples of shape (samples, channels), at least one, as `read_audio` gives them.

    Raises:
        AudioError: The file is empty, or ends before its header says so.
    """
    size = size or BLOCK_SAMPLES
    dtype = "int16" if file.subtype in _SIXTEEN_BITS else "float32"
    promised = _promised(file)
    got = 0
    while len(block := file.read(size, dtype, always_2d=True)):
        got += len(block)
        if len(block) < size or got == promised:
            _check_length(got, promised, file.samplerate)
        yield block
        if got == promised:
            return
    _check_length(got, promised, file.samplerate)


def in_one_block(file: soundfile.SoundFile) -> bool:
    """Return whether `read_blocks` gives a file that can seek in a single block."""
    return bool(file.frames <= BLOCK_SAMPLES)


def to_mono(samples: Samples, downmix: Literal["mean", "first"]) -> Float32:
    """Make one channel of several, full scale at 1.

    Args:
        samples: Shape (samples,) or (samples, channels), int16 or float32.
        downmix: Whether to take the mean of the channels or the first of them.

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
    """What libsndfile opens: a path, a stream that can seek, or a file descriptor."""
    if isinstance(source, str | os.PathLike):
        if not storage.is_url(source):
            return os.fspath(source)
        filesystem, inner = storage.resolve(source)
        return filesystem.open_input_file(inner)
    return source if source.seekable() else source.fileno()


def _promised(file: soundfile.SoundFile) -> int | None:
    """Samples that the header announces; none if it cannot know."""
    if not file.seekable():
        return None
    # libsndfile takes most files that were cut short for shorter ones, and only notes it.
    if found := _CUT_SHORT.search(file.extra_info):
        if found[1] is None:
            raise AudioError("was cut short: its last page is missing")
        announced, there = map(int, found.groups())
        if there < announced < _UNKNOWN_LENGTH:
            return int(file.frames * announced / max(there, 1))
    return int(file.frames)


def _check_length(got: int, promised: int | None, rate: int) -> None:
    if got == 0:
        raise AudioError("holds no samples")
    if promised is not None and got < promised:
        raise AudioError(
            f"was cut short: its header announces {promised / rate:.2f} s, "
            f"but it ends after {got / rate:.2f} s"
        )

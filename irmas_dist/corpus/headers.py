"""What an audio file tells of itself without being decoded, and whether it is whole."""

import hashlib
import os
import struct
from dataclasses import dataclass
from io import BufferedIOBase

import soundfile

from irmas_dist import storage

MISSING_SHARE = 0.01
"""A WAV is truncated when more than this share of its audio is missing; what is less cannot
be heard, and some writers count a header among the audio."""

_UNKNOWN_SIZE = 0xFFFFFFFF
"""Size of the audio in a WAV that was written to a pipe."""


@dataclass(frozen=True)
class Measure:
    """Facts of a file; those that could not be found out are none.

    Attributes:
        duration_s: Length in seconds.
        sample_rate: In Hz.
        channels: Their number.
        bytes: Size of the file.
        md5: Of the file, hexadecimal.
        problem: Why it cannot be used; none when it can.
    """

    duration_s: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    bytes: int | None = None
    md5: str | None = None
    problem: str | None = None


def measure(location: str | os.PathLike[str]) -> Measure:
    """Read a file's digest and header.

    Args:
        location: Path or URL of the file.

    Any sample rate, number of channels and width that libsndfile reads is fine. A file in
    another format than WAV that is cut short is noticed only where it is decoded.
    """
    try:
        with storage.open_file(location) as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
            size = file.tell()
            if size == 0:
                return Measure(bytes=0, md5=md5, problem="empty file")
            file.seek(0)
            promised, there = _wav_audio(file, size)
            file.seek(0)
            # Bytes, because a name on disk need not be text.
            info = soundfile.info(file if storage.is_url(location) else os.fsencode(location))
    except OSError as error:
        return Measure(problem=f"cannot be read: {error.strerror or error}")
    except soundfile.LibsndfileError as error:
        problem: str | None = f"cannot be read as audio: {error.error_string}"
        return Measure(bytes=size, md5=md5, problem=problem)
    if there < promised * (1 - MISSING_SHARE):
        problem = f"truncated: {there:,} of {promised:,} bytes of audio are there"
    else:
        problem = None if info.frames else "holds no samples"
    return Measure(
        duration_s=info.frames / info.samplerate,
        sample_rate=info.samplerate,
        channels=info.channels,
        bytes=size,
        md5=md5,
        problem=problem,
    )


def _wav_audio(file: BufferedIOBase, size: int) -> tuple[int, int]:
    """Return how many bytes of audio a WAV promises and how many it has.

    libsndfile silently takes the smaller number. Both are 0 for other formats, and where the
    header does not promise any.
    """
    form = file.read(12)
    if form[:4] not in (b"RIFF", b"RIFX") or form[8:] != b"WAVE":
        return 0, 0
    order = ">" if form[:4] == b"RIFX" else "<"
    while len(header := file.read(8)) == 8:
        name, promised = struct.unpack(f"{order}4sI", header)
        if name == b"data":
            known = promised != _UNKNOWN_SIZE
            return (promised, min(promised, size - file.tell())) if known else (0, 0)
        file.seek(promised + promised % 2, os.SEEK_CUR)
    return 0, 0

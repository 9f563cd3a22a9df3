"""The header and digest of an audio file, read without decoding it, and whether it is complete."""

import hashlib
import os
import struct
from dataclasses import dataclass
from io import BufferedIOBase

import soundfile

from irmas_dist import storage

MISSING_SHARE = 0.01
"""A WAV is truncated when more than this share of its audio is missing. Less is inaudible, and
some writers count a header as audio."""

_UNKNOWN_SIZE = 0xFFFFFFFF
"""Size of the audio that a WAV states when it is written to a pipe."""


@dataclass(frozen=True)
class AudioHeader:
    """Facts about an audio file; None where they cannot be read."""

    duration_s: float | None = None
    sample_rate: int | None = None  # in Hz
    channels: int | None = None
    bytes: int | None = None  # size of the file
    md5: str | None = None
    problem: str | None = None  # why the file cannot be used; None when it can


def read_header(location: str | os.PathLike[str]) -> AudioHeader:
    """Read the digest and header of the file at a path or URL.

    Any sample rate, number of channels and sample width that libsndfile reads is fine. Whether a
    file is truncated is known of WAV only; other formats show it when they are decoded.
    """
    try:
        with storage.open_file(location) as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
            size = file.tell()
            if size == 0:
                return AudioHeader(bytes=0, md5=md5, problem="empty file")
            file.seek(0)
            stated, actual = _wav_bytes(file, size)
            file.seek(0)
            # Bytes, because a name on disk need not be UTF-8.
            info = soundfile.info(file if storage.is_url(location) else os.fsencode(location))
    except OSError as error:
        return AudioHeader(problem=f"cannot be read: {error.strerror or error}")
    except soundfile.LibsndfileError as error:
        return AudioHeader(
            bytes=size, md5=md5, problem=f"cannot be read as audio: {error.error_string}"
        )
    problem = None if info.frames else "holds no samples"
    if actual < stated * (1 - MISSING_SHARE):
        problem = f"truncated: has {actual:,} of {stated:,} bytes of audio"
    return AudioHeader(
        duration_s=info.frames / info.samplerate,
        sample_rate=info.samplerate,
        channels=info.channels,
        bytes=size,
        md5=md5,
        problem=problem,
    )


def _wav_bytes(file: BufferedIOBase, size: int) -> tuple[int, int]:
    """Return how many bytes of audio a WAV states in its header and how many it has.

    libsndfile silently takes the smaller number. Both are 0 for other formats, and where the
    header states no size.
    """
    form = file.read(12)
    if form[:4] not in (b"RIFF", b"RIFX") or form[8:] != b"WAVE":
        return 0, 0
    order = ">" if form[:4] == b"RIFX" else "<"
    while len(header := file.read(8)) == 8:
        name, stated = struct.unpack(f"{order}4sI", header)
        if name == b"data":
            return (0, 0) if stated == _UNKNOWN_SIZE else (stated, min(stated, size - file.tell()))
        file.seek(stated + stated % 2, os.SEEK_CUR)
    return 0, 0

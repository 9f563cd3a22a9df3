"""Audio files of every format, and what can become of them."""

import io
import struct
from functools import cache

import numpy as np
import soundfile

RATE = 48_000
SECONDS = 0.5

WRITTEN = {
    "a.wav": ("WAV", "PCM_16"),
    "8 bits.wav": ("WAV", "PCM_U8"),
    "float.wav": ("WAVEX", "FLOAT"),
    "adpcm.wav": ("WAV", "MS_ADPCM"),
    "rf64.wav": ("RF64", "PCM_24"),
    "a.w64": ("W64", "PCM_16"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.au": ("AU", "PCM_16"),
    "a.caf": ("CAF", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Container and encoding by name of file."""

ID3 = b"ID3\4\0\0" + bytes([0, 0, 8, 5]) + bytes(1_029)
"""A tag."""

PIPE_SIZES = (0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFD8, 0xFFFFFFFF, 0)
"""What programs write into a WAV as the size of its audio when they do not know it."""


@cache
def content(name: str, seconds: float = SECONDS, **options: object) -> bytes:
    """Return stereo noise over a tone as a file."""
    times = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 440 * times)
    noise = 0.05 * np.random.default_rng(0).standard_normal((len(times), 2))
    stream = io.BytesIO()
    container, encoding = WRITTEN[name]
    soundfile.write(stream, tone[:, None] + noise, RATE, encoding, format=container, **options)
    return stream.getvalue()


def without_tag(mp3: bytes) -> bytes:
    """Return an MP3 without its first frame, which says how many there are."""
    return mp3[mp3.index(b"\xff\xfb", 4) :]


def wav_of_size(size: int, riff: int | None = None, seconds: float = SECONDS) -> bytes:
    """Return a WAV whose header states other sizes of its audio and of the whole."""
    whole = content("a.wav", seconds)
    at = whole.index(b"data") + 4
    stated = size + 36 if riff is None else riff
    head = whole[:4] + struct.pack("<I", stated & 0xFFFFFFFF) + whole[8:at]
    return head + struct.pack("<I", size) + whole[at + 4 :]

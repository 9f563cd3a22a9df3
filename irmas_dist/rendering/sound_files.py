"""The files of a rendered tree: WAV, Ogg and label files, the same bytes for the same audio."""

import io
import struct
import zlib

import numpy as np
import soundfile as sf

from irmas_dist.rendering.recordings import Clip
from irmas_dist.rendering.soundfont import SAMPLE_RATE
from irmas_dist.rendering.synthesis import Audio

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def label_file(clip: Clip) -> bytes:
    """Return the content of a clip's label file, in IRMAS's format."""
    return "".join(f"{code}\t\n" for code in clip.instruments).encode()


def wav_bytes(duration_s: float) -> int:
    """Return the size of a rendered file of this duration, in bytes."""
    return 44 + 4 * round(duration_s * SAMPLE_RATE)


def encode(audio: Audio, suffix: str) -> bytes:
    """Return stereo audio, shape (2, samples), as a file: 16-bit ``.wav``, or Vorbis ``.ogg``."""
    return _ogg(audio) if suffix == ".ogg" else _wav(audio)


def _wav(audio: Audio) -> bytes:
    """Return stereo audio of shape (2, samples) as a 16-bit PCM WAV file."""
    file = io.BytesIO()
    samples = np.round(audio.T * 32767).astype(np.int16)
    sf.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _ogg(audio: Audio) -> bytes:
    """Return audio as Vorbis, with 0 for the stream's number, which libsndfile draws at random."""
    file = io.BytesIO()
    with sf.SoundFile(file, "w", SAMPLE_RATE, 2, format="OGG", subtype="VORBIS") as encoder:
        # In blocks: a long one overflows the encoder's stack.
        for start in range(0, audio.shape[1], SAMPLE_RATE):
            encoder.write(audio.T[start : start + SAMPLE_RATE])
    data = bytearray(file.getvalue())
    at = 0
    while at < len(data):  # page by page: a header, the lengths of its segments, the segments
        segments = data[at + 26]
        end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
        data[at + 14 : at + 18] = data[at + 22 : at + 26] = bytes(4)
        data[at + 22 : at + 26] = struct.pack("<I", _ogg_checksum(bytes(data[at:end])))
        at = end
    return bytes(data)


def _ogg_checksum(page: bytes) -> int:
    """Return a page's CRC-32, which is zlib's with all bits in reverse, and without inversions."""
    reverse = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reverse:032b}"[::-1], 2)

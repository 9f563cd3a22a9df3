"""Audio embedded in a page: short mono MP3, which every browser plays."""

import base64
import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 24_000
"""Sample rate in Hz: up to 12 kHz is enough to distinguish instruments."""

MAX_SECONDS = 20.0
"""Longest audio, in seconds: ten players then add about 1.6 MB to a page."""


def embedded(path: Path) -> str | None:
    """Return the beginning of an audio file as a ``data:`` URL; None when it cannot be read."""
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            samples = file.read(int(MAX_SECONDS * rate), dtype="float32", always_2d=True)
        mono = soxr.resample(samples.mean(axis=1), rate, RATE)
        buffer = io.BytesIO()
        # This level is 48 kbit/s.
        soundfile.write(
            buffer, np.clip(mono, -1, 1), RATE, format="MP3", bitrate_mode="CONSTANT",
            compression_level=0.75,
        )  # fmt: skip
    except (soundfile.SoundFileError, OSError, TypeError):
        return None
    return f"data:audio/mpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

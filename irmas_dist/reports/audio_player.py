"""Audio embedded in a page: short mono MP3, which every browser plays."""

import base64
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from irmas_dist.corpus.audio import Samples, open_audio
from irmas_dist.corpus.mixdown import mix_down
from irmas_dist.errors import AudioError

RATE = 24_000
"""Sample rate in Hz: up to 12 kHz is enough to distinguish instruments."""

MAX_SECONDS = 20.0
"""Longest audio, in seconds: ten players then add about 1.6 MB to a page."""


def embedded(path: Path) -> str | None:
    """Return the beginning of an audio file as a ``data:`` URL; None when it cannot be read."""
    try:
        with open_audio(path) as file:
            wanted = int(MAX_SECONDS * file.sample_rate)
            samples = np.concatenate(list(_beginning(file.blocks(), wanted)))[:wanted]
        mono = soxr.resample(mix_down(samples, "mean")[0], file.sample_rate, RATE)
        buffer = io.BytesIO()
        # This level is 48 kbit/s.
        soundfile.write(
            buffer, np.clip(mono, -1, 1), RATE, format="MP3", bitrate_mode="CONSTANT",
            compression_level=0.75,
        )  # fmt: skip
    except AudioError:
        return None
    return f"data:audio/mpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _beginning(blocks: Iterable[Samples], wanted: int) -> Iterator[Samples]:
    """Yield blocks until they have as many samples as are wanted."""
    for block in blocks:
        yield block
        wanted -= len(block)
        if wanted <= 0:
            return

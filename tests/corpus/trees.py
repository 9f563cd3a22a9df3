"""Trees of audio files for the tests of indexing."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

NFC, NFD = (unicodedata.normalize(form, "Für Elise-1") for form in ("NFC", "NFD"))


def wav(path: Path, seed: int = 0, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.1, 0.1, 2_000)
    soundfile.write(path, samples, options.pop("rate", 44_100), **options)
    return path


def excerpt(path: Path, labels: str | bytes, seed: int = 0) -> Path:
    content = labels.encode() if isinstance(labels, str) else labels
    wav(path, seed).with_suffix(".txt").write_bytes(content)
    return path

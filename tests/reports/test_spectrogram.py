"""The picture of a spectrogram: where its frequencies lie, and that it is one."""

from pathlib import Path

import numpy as np
import soundfile

from irmas_dist.config.features import LogMelSettings
from irmas_dist.reports.spectrogram import draw


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a $1.wav", np.ones(22_050) / 2, 22_050)
    draw(str(tmp_path / "a $1.wav"), LogMelSettings(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

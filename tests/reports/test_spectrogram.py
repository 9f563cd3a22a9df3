"""The picture of a spectrogram: where its frequencies lie, and that it is one."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.features.logmel import LogMelSettings, log_mel
from irmas_dist.reports.spectrogram import band_centres, draw


@pytest.mark.parametrize("hz", [300, 1_000, 4_000])
def test_a_tone_is_loudest_where_its_frequency_is_marked(hz: float) -> None:
    settings = LogMelSettings()
    tone = np.sin(2 * np.pi * hz * np.arange(22_050) / 22_050).astype(np.float32)
    loudest = log_mel(tone, settings, 22_050)[:, 20].argmax()
    assert band_centres(settings)[loudest] == pytest.approx(hz, rel=0.06)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a $1.wav", np.ones(22_050) / 2, 22_050)
    draw(str(tmp_path / "a $1.wav"), LogMelSettings(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

"""Uploads become the windows that files have, of either backend, and no more than is allowed."""

from pathlib import Path

import numpy as np
import pytest

from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import AudioError
from irmas_dist.features.logmel import log_mel
from irmas_dist.features.window_stream import SHORT_NOTE, windows_of
from irmas_dist.serving.reader import _chunks


@pytest.mark.parametrize("backend", ["fast", "librosa"])
def test_windows_are_those_of_the_file(excerpts: list[Path], backend: str) -> None:
    settings = LogMelSettings(n_fft=1024, hop_length=512, bands=32, backend=backend)
    asked = {"settings": settings.model_dump_json(), "frames": 43, "hop_frames": 21}
    path, notes = str(excerpts[0]), []
    chunks = list(_chunks(path, asked | {"longest_s": 60}, notes))
    mel = log_mel(excerpts[0], settings)
    cut = windows_of([mel], 43, 21, settings.log_floor, notes.append)
    offsets, windows = zip(*cut, strict=True)
    assert [first for firsts, _ in chunks for first in firsts] == list(offsets)
    np.testing.assert_allclose(np.concatenate([each for _, each in chunks]), windows, atol=1e-2)
    assert notes == []
    longer = {"frames": 2 * mel.shape[1] + 1, "longest_s": 60}
    list(_chunks(path, asked | longer, notes))
    assert notes == [SHORT_NOTE]
    with pytest.raises(AudioError, match="is longer than 1 s"):
        next(_chunks(path, asked | {"longest_s": 1}, notes))

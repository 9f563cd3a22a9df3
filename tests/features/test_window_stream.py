"""A spectrogram that arrives in pieces has the windows of the whole one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.features.window_stream import SHORT_NOTE, windows_of
from irmas_dist.training.windows import covering_windows

sizes = st.integers(1, 40)


@given(
    length=st.integers(1, 120),
    frames=sizes,
    hop=sizes,
    cuts=st.lists(st.integers(1, 119), max_size=8),
)
def test_windows_of_pieces_are_those_of_the_whole_spectrogram(
    length: int, frames: int, hop: int, cuts: list[int]
) -> None:
    mel = np.stack([np.arange(length), -np.arange(length)]).astype(np.float16)
    pieces = [piece for piece in np.split(mel, sorted(cuts), axis=1) if piece.size]
    notes: list[str] = []
    cut = windows_of(pieces, frames, hop, -99.0, notes.append)
    offsets, windows = zip(*cut, strict=True)
    assert notes == ([SHORT_NOTE] if 2 * length < frames else [])
    assert list(offsets) == covering_windows(np.array([length]), frames, hop).offsets.tolist()
    padded = np.pad(mel, ((0, 0), (0, max(frames - length, 0))), constant_values=-99)
    for first, window in zip(offsets, windows, strict=True):
        np.testing.assert_array_equal(window, padded[:, first : first + frames])

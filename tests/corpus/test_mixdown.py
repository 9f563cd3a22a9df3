"""Channels are averaged unless they cancel, and silence is told from sound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.corpus.mixdown import SILENCE, SILENT, Mixdown, mix_down, survey
from irmas_dist.errors import AudioError

RNG = np.random.default_rng(0)
SOUND = (0.3 * RNG.standard_normal(20_000)).astype(np.float32)
OTHER = (0.3 * RNG.standard_normal(20_000)).astype(np.float32)
CANCEL = "its channels cancel each other: the louder, channel {}, is used"


def stacked(*channels: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    samples = np.stack(channels, axis=1)
    return samples if dtype == np.float32 else (samples.clip(-1, 1) * 32_767).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_channels_are_averaged_or_the_first_is_taken(dtype: type) -> None:
    full_scale = 32_768 if dtype == np.int16 else 1
    samples = (np.array([[0.5, -0.25], [0.25, 0.75]]) * full_scale).astype(dtype)
    assert mix_down(samples, "mean")[0].tolist() == [0.125, 0.5]
    assert mix_down(samples, "first")[0].tolist() == [0.5, 0.25]
    assert mix_down(samples[:, 0], "mean")[0].tolist() == [0.5, 0.25]


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_of_channels_that_cancel_the_louder_is_used(dtype: type) -> None:
    # A codec leaves some error of its own in both.
    error = 0.01 * OTHER
    for samples, louder in (
        (stacked(SOUND, -SOUND, dtype=dtype), 0),
        (stacked(SOUND, -SOUND + error, dtype=dtype), None),
        (stacked(0.99 * SOUND, -SOUND, dtype=dtype), 1),
        (stacked(SOUND, OTHER, -SOUND, -OTHER, dtype=dtype), None),
    ):
        mono, note = mix_down(samples, "mean")
        assert note in [CANCEL.format(c + 1) for c in range(4) if louder in (None, c)]
        channel = int(note.split()[-3].rstrip(",")) - 1
        np.testing.assert_array_equal(mono, mix_down(samples[:, channel], "mean")[0])
        assert mix_down(samples, "first")[1] is None


@pytest.mark.parametrize(
    "samples",
    [
        stacked(SOUND, SOUND),
        stacked(SOUND, OTHER),
        stacked(SOUND, 0 * SOUND),
        stacked(*[0 * SOUND] * 31, SOUND),
        stacked(SOUND + 0.5 * OTHER, -0.8 * SOUND + 0.5 * OTHER),
        stacked(SOUND, -0.9 * SOUND),
    ],
    ids=["same", "unrelated", "one empty", "31 empty", "wide", "nearly opposite"],
)
def test_other_channels_are_averaged(samples: np.ndarray) -> None:
    mono, note = mix_down(samples, "mean")
    assert note is None
    np.testing.assert_allclose(mono, samples.mean(axis=1), atol=1e-6)


@given(st.floats(0, 1, width=32))
def test_a_file_is_silent_below_one_level(level: float) -> None:
    samples = np.float32(level) * np.array([0, 0.5, -1, 0.25], np.float32)
    mono, note = mix_down(samples, "mean")
    if level < SILENCE:
        assert note == SILENT == "silent: no sample reaches -72 dBFS"
        assert not mono.any()
    else:
        assert note is None
        np.testing.assert_array_equal(mono, samples)


def test_silence_that_cancels_is_silence() -> None:
    quiet = SOUND * SILENCE / 10
    assert mix_down(stacked(quiet, -quiet), "mean")[1] == SILENT
    assert mix_down(stacked(0 * quiet, 0 * quiet), "mean")[1] == SILENT


@given(st.lists(st.integers(1, 19_999), max_size=4), st.booleans())
def test_blocks_have_the_verdict_of_the_whole(cuts: list[int], opposite: bool) -> None:
    samples = stacked(SOUND, -SOUND if opposite else OTHER)
    blocks = np.split(samples, sorted(cuts))
    assert survey(lambda: blocks).note == mix_down(samples, "mean")[1]
    mixdown = Mixdown("mean")
    mono = np.concatenate([mixdown(block) for block in blocks])
    np.testing.assert_allclose(mono, samples.mean(axis=1), atol=1e-6)


def test_channels_that_cancel_in_a_part_only_are_averaged() -> None:
    halves = [stacked(SOUND, -SOUND), stacked(SOUND, SOUND)]
    assert survey(lambda: halves).note is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(value: float) -> None:
    samples = stacked(SOUND, OTHER)
    samples[50, 1] = value
    with pytest.raises(AudioError, match="holds NaN or infinite samples"):
        mix_down(samples, "mean")

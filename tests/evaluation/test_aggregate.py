import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.evaluation.aggregate import aggregate

RULES = ["mean", "s2", "max"]

# Two clips of two windows and one window, three instruments.
WINDOWS = np.array([[0.2, 0.8, 0.0], [0.6, 0.4, 0.0], [0.1, 0.3, 0.2]], dtype=np.float32)
OFFSETS = np.array([0, 2, 3])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("mean", [[0.4, 0.6, 0.0], [0.1, 0.3, 0.2]]),
        ("s2", [[0.8 / 1.2, 1.0, 0.0], [1 / 3, 1.0, 2 / 3]]),
        ("max", [[0.6, 0.8, 0.0], [0.1, 0.3, 0.2]]),
    ],
)
def test_by_hand(rule, expected):
    result = aggregate(WINDOWS, OFFSETS, rule)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@st.composite
def clips_of_windows(draw):
    counts = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    windows = rng.random((sum(counts), draw(st.integers(1, 5))), dtype=np.float32)
    return windows, np.concatenate([[0], np.cumsum(counts)])


@settings(max_examples=50, deadline=None)
@given(clips_of_windows(), st.sampled_from(RULES))
def test_every_clip_is_aggregated_as_if_it_were_alone(clips, rule):
    windows, offsets = clips
    together = aggregate(windows, offsets, rule)
    for clip, (start, stop) in enumerate(itertools.pairwise(offsets)):
        alone = windows[start:stop].astype(np.float64)
        expected = {
            "mean": alone.mean(axis=0),
            "s2": alone.sum(axis=0) / alone.sum(axis=0).max(),
            "max": alone.max(axis=0),
        }[rule]
        np.testing.assert_allclose(together[clip], expected, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(clips_of_windows(), st.sampled_from(RULES), st.randoms(use_true_random=False))
def test_the_order_of_windows_does_not_matter(clips, rule, random):
    windows, offsets = clips
    shuffled = []
    for start, stop in itertools.pairwise(offsets):
        rows = list(range(start, stop))
        random.shuffle(rows)
        shuffled += rows
    np.testing.assert_allclose(
        aggregate(windows[shuffled], offsets, rule), aggregate(windows, offsets, rule), rtol=1e-6
    )


@settings(max_examples=50, deadline=None)
@given(clips_of_windows(), st.sampled_from(RULES))
def test_scores_stay_between_0_and_1(clips, rule):
    result = aggregate(*clips, rule)
    assert (result >= 0).all()
    assert (result <= 1).all()


@settings(max_examples=50, deadline=None)
@given(clips_of_windows())
def test_with_s2_the_surest_instrument_of_every_clip_scores_1(clips):
    np.testing.assert_array_equal(aggregate(*clips, "s2").max(axis=1), 1)


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_a_single_window_is_its_clip(rule):
    offsets = np.arange(len(WINDOWS) + 1)
    np.testing.assert_array_equal(aggregate(WINDOWS, offsets, rule), WINDOWS)


def test_a_silent_clip_stays_at_zero():
    np.testing.assert_array_equal(aggregate(np.zeros((2, 3)), np.array([0, 2]), "s2"), 0)


def test_a_clip_without_windows_is_refused():
    with pytest.raises(ValueError, match="clip 1 has no window"):
        aggregate(WINDOWS, np.array([0, 2, 2, 3]), "mean")


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 5]])
def test_offsets_that_do_not_cover_the_windows_are_refused(offsets):
    with pytest.raises(ValueError, match="for 3 windows"):
        aggregate(WINDOWS, np.array(offsets), "mean")

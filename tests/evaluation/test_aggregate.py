import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from irmas_dist.config.decisions import AggregationRule
from irmas_dist.evaluation.aggregate import aggregate

RULES = ["mean", "s2", "han2017", "max", "top1", "top3", "attention"]
WITHOUT_ORDER = [rule for rule in RULES if rule != "han2017"]
RELATIVE = ["s2", "han2017"]

# Two clips of two windows and one window, three instruments.
WINDOWS = np.array([[0.2, 0.8, 0.0], [0.6, 0.4, 0.0], [0.1, 0.3, 0.2]], dtype=np.float32)
OFFSETS = np.array([0, 2, 3])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("mean", [[0.4, 0.6, 0.0], [0.1, 0.3, 0.2]]),
        ("s2", [[0.8 / 1.2, 1.0, 0.0], [1 / 3, 1.0, 2 / 3]]),
        ("han2017", [[0.75, 1.0, 0.0], [1 / 3, 1.0, 2 / 3]]),
        ("max", [[0.6, 0.8, 0.0], [0.1, 0.3, 0.2]]),
        ("top1", [[0.6, 0.8, 0.0], [0.1, 0.3, 0.2]]),
        ("top2", [[0.4, 0.6, 0.0], [0.1, 0.3, 0.2]]),
        ("attention", [[0.4 / 0.8, 0.8 / 1.2, 0.0], [0.1, 0.3, 0.2]]),
    ],
)
def test_by_hand(rule, expected):
    result = aggregate(WINDOWS, OFFSETS, rule)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@st.composite
def clips_of_windows(draw):
    counts = draw(st.lists(st.integers(1, 14), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    windows = rng.random((sum(counts), draw(st.integers(1, 5))), dtype=np.float32)
    return windows, np.concatenate([[0], np.cumsum(counts)])


def by_the_formula(windows, rule):
    """The clip scores of one clip, as plainly as the formulas are written."""
    windows = windows.astype(np.float64)
    falling = np.sort(windows, axis=0)[::-1]
    pools, begin = [], 0
    while True:
        pools.append(windows[begin : begin + 6].max(axis=0))
        if begin + 6 >= len(windows):
            break
        begin += 3
    sums, pooled = windows.sum(axis=0), np.sum(pools, axis=0)
    return {
        "mean": windows.mean(axis=0),
        "s2": sums / sums.max(),
        "han2017": pooled / pooled.max(),
        "max": windows.max(axis=0),
        "top1": falling[:1].mean(axis=0),
        "top3": falling[:3].mean(axis=0),
        "attention": (windows**2).sum(axis=0) / sums,
    }[rule]


@settings(max_examples=100)
@given(clips_of_windows(), st.sampled_from(RULES))
def test_every_clip_is_aggregated_as_if_it_were_alone(clips, rule):
    windows, offsets = clips
    together = aggregate(windows, offsets, rule)
    assert together.dtype == np.float32
    for clip, (start, stop) in enumerate(itertools.pairwise(offsets)):
        expected = by_the_formula(windows[start:stop], rule)
        np.testing.assert_allclose(together[clip], expected, rtol=1e-6)


@settings(max_examples=50)
@given(clips_of_windows(), st.sampled_from(WITHOUT_ORDER), st.randoms(use_true_random=False))
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


@settings(max_examples=50)
@given(clips_of_windows(), st.sampled_from(RULES))
def test_scores_stay_between_0_and_1(clips, rule):
    result = aggregate(*clips, rule)
    assert (result >= 0).all()
    assert (result <= 1).all()


@settings(max_examples=50)
@given(clips_of_windows(), st.sampled_from(RELATIVE))
def test_with_relative_rules_the_surest_instrument_of_every_clip_scores_1(clips, rule):
    np.testing.assert_array_equal(aggregate(*clips, rule).max(axis=1), 1)


@settings(max_examples=50)
@given(clips_of_windows())
def test_from_the_mean_to_the_maximum_by_way_of_the_largest(clips):
    mean, attention, largest = (aggregate(*clips, rule) for rule in ("mean", "attention", "max"))
    assert (mean <= attention + 1e-6).all()
    assert (attention <= largest + 1e-6).all()
    falling = [aggregate(*clips, f"top{most}") for most in (1, 2, 5, 99)]
    np.testing.assert_array_equal(falling[0], largest)
    np.testing.assert_allclose(falling[-1], mean, rtol=1e-6)
    for more, fewer in itertools.pairwise(falling):
        assert (fewer <= more + 1e-6).all()


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in RELATIVE])
def test_a_single_window_is_its_clip(rule):
    offsets = np.arange(len(WINDOWS) + 1)
    np.testing.assert_allclose(aggregate(WINDOWS, offsets, rule), WINDOWS, rtol=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_a_silent_clip_stays_at_zero(rule):
    np.testing.assert_array_equal(aggregate(np.zeros((2, 3)), np.array([0, 2]), rule), 0)


@settings(max_examples=50)
@given(clips_of_windows(), st.sampled_from(WITHOUT_ORDER), st.integers(1, 5), st.booleans())
def test_silent_windows_change_nothing(clips, rule, silent, before):
    windows, offsets = clips
    silence = np.zeros((silent, windows.shape[1]), np.float32)
    padded = np.concatenate(
        [
            np.concatenate([silence, windows[start:stop]][:: 1 if before else -1])
            for start, stop in itertools.pairwise(offsets)
        ]
    )
    np.testing.assert_allclose(
        aggregate(padded, offsets + silent * np.arange(len(offsets)), rule),
        aggregate(windows, offsets, rule),
        rtol=1e-6,
    )


def test_silent_windows_add_no_instrument_over_time():
    windows = np.concatenate([np.zeros((9, 3), np.float32), WINDOWS[:2], np.zeros((9, 3))])
    scores = aggregate(windows, np.array([0, len(windows)]), "han2017")[0]
    np.testing.assert_allclose(scores, [0.75, 1.0, 0.0])


@pytest.mark.parametrize("rule", ["mode", "top", "top0", "top-1", "topmost"])
def test_an_unknown_rule_is_refused_in_recipes_and_in_calls(rule):
    with pytest.raises(ValueError, match="no aggregation rule"):
        aggregate(WINDOWS, OFFSETS, rule)
    with pytest.raises(ValidationError, match="should match pattern"):
        TypeAdapter(AggregationRule).validate_python(rule)


@pytest.mark.parametrize("rule", RULES)
def test_recipes_take_every_rule(rule):
    assert TypeAdapter(AggregationRule).validate_python(rule) == rule


def test_a_clip_without_windows_is_refused():
    with pytest.raises(ValueError, match="clip 1 has no window"):
        aggregate(WINDOWS, np.array([0, 2, 2, 3]), "mean")


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 5]])
def test_offsets_that_do_not_cover_the_windows_are_refused(offsets):
    with pytest.raises(ValueError, match="for 3 windows"):
        aggregate(WINDOWS, np.array(offsets), "mean")

import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.evaluation.bootstrap import (
    MOST_SONGS,
    draw_songs,
    holm,
    interval,
)
from irmas_dist.evaluation.metrics import (
    decision_figures,
    decision_metrics,
    overall_metrics,
    per_instrument,
    score_figures,
)
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.instruments import IRMAS
from tests.evaluation.test_metrics import labelled_scores


def replicate(labels, scores, decisions, draws):
    of_decisions = decision_figures(labels, decisions, draws)
    figures = of_decisions.overall | score_figures(labels, scores, draws).overall
    return figures | {"f1": of_decisions.instruments["f1"]}


def test_songs_are_drawn_as_often_as_there_are_songs(forest):
    draws = draw_songs(forest.groups, resamples=50)
    assert draws.times.shape == (1 + 208 + 50, 208)
    assert (draws.times[0] == 1).all()
    assert (draws.times[1:209].sum(axis=1) == 207).all()
    assert (draws.times[209:].sum(axis=1) == 208).all()
    assert (np.bincount(draws.song) > 0).all()


def test_the_same_seed_draws_the_same_songs_whatever_the_order_of_clips():
    names = ["a", "b", "b", "c", "a"]
    forward, back = draw_songs(names, 20, seed=3), draw_songs(names[::-1], 20, seed=3)
    np.testing.assert_array_equal(forward.times, back.times)
    np.testing.assert_array_equal(forward.song, back.song[::-1])
    assert (forward.times != draw_songs(names, 20, seed=4).times).any()


def test_very_many_songs_are_drawn_in_groups_and_intervals_stay_as_wide():
    songs = 3 * MOST_SONGS
    sample = np.random.default_rng(3).exponential(size=songs)
    draws = draw_songs([str(number) for number in range(songs)], 500)
    assert draws.times.shape == (1 + MOST_SONGS + 500, MOST_SONGS)
    assert set(np.bincount(draws.song)) == {3}
    low, high = interval(draws.means(sample), draws)
    assert low < sample.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * sample.std() / np.sqrt(songs), rel=0.15)


def test_ranks_of_very_many_songs_take_little_memory():
    rng = np.random.default_rng(4)
    labels = (rng.random((20_000, 1)) < 0.2).astype(np.int8)
    draws = draw_songs([str(number) for number in range(20_000)], 5)
    tracemalloc.start()
    score_figures(labels, rng.random(labels.shape).astype(np.float32), draws)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100e6


@settings(max_examples=60)
@given(labelled_scores(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.5, 1.1]))
def test_the_figures_of_a_draw_are_those_of_its_clips(labelled, seed, threshold):
    labels, scores = labelled
    rng = np.random.default_rng(seed)
    songs = rng.integers(0, 4, len(labels))
    draws = draw_songs([f"song {song}" for song in songs], resamples=3, seed=seed)
    decisions = decide(scores, threshold)
    replicated = replicate(labels, scores, decisions, draws)
    for number, times in enumerate(draws.times):
        if not times.any():
            continue  # the only song, left out
        clips = np.repeat(np.arange(len(labels)), times[draws.song].astype(int))
        expected = overall_metrics(labels[clips], scores[clips], threshold)
        assert replicated.keys() - {"f1"} == expected.keys()
        for name, value in expected.items():
            assert replicated[name][number] == pytest.approx(value, abs=1e-9), name


def test_each_song_once_gives_the_figures_themselves(forest):
    draws = draw_songs(forest.groups, 0)
    result = replicate(forest.labels, forest.scores, decide(forest.scores, 0.14), draws)
    for name, value in overall_metrics(forest.labels, forest.scores, 0.14).items():
        assert result[name][0] == pytest.approx(value, abs=1e-9)
    rows = per_instrument(forest.labels, forest.scores, decide(forest.scores, 0.14), IRMAS)
    assert result["f1"][0] == pytest.approx([row["f1"] for row in rows], abs=1e-9)


def test_drawing_songs_gives_wider_intervals_than_drawing_excerpts(forest):
    decisions = decide(forest.scores, 0.14)
    draws = draw_songs(forest.groups, resamples=200)
    values = decision_figures(forest.labels, decisions, draws).overall["micro_f1"]
    by_song = interval(values, draws)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(200):
        clips = rng.integers(0, len(decisions), len(decisions))
        values.append(decision_metrics(forest.labels[clips], decisions[clips])["micro_f1"])
    low, high = np.quantile(values, [0.025, 0.975])
    assert by_song.low < low < 0.4607 < high < by_song.high
    assert by_song.high - by_song.low > 2 * (high - low)


def test_intervals_are_those_of_scipy():
    sample = np.random.default_rng(1).exponential(size=40)
    draws = draw_songs([str(number) for number in range(100, 140)], 20_000)
    ours = interval(draws.times @ sample / draws.times.sum(axis=1), draws, 0.9)
    theirs = scipy.stats.bootstrap(
        (sample,), np.mean, n_resamples=20_000, confidence_level=0.9, method="BCa", rng=2
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.01)


@pytest.mark.parametrize("figure", [-1.0, 0.01, 0.5, 0.99, 2.0])
def test_an_interval_contains_its_figure_whatever_the_bias(figure: float) -> None:
    draws = draw_songs([str(number) for number in range(8)], 1_000)
    others = np.random.default_rng(0).uniform(size=len(draws.times) - 1)
    low, high = interval(np.concatenate([[figure], others]), draws)
    assert low <= figure <= high
    assert high - low > 0.9


def test_one_song_has_no_interval():
    assert interval(np.full(4, 0.5), draw_songs(["a song"] * 5, 2)) is None


def test_holm_multiplies_by_the_comparisons_that_are_left():
    values = {("a", "b"): 0.02, ("a", "c"): 0.01, ("b", "c"): 0.9}
    assert holm(values) == pytest.approx({("a", "b"): 0.04, ("a", "c"): 0.03, ("b", "c"): 0.9})
    assert list(holm(values)) == list(values)
    # The order of p-values does not change.
    assert holm({("a", "b"): 0.04, ("a", "c"): 0.03}) == {("a", "b"): 0.06, ("a", "c"): 0.06}


def test_arrays_of_other_shapes_or_values_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        decision_figures(np.zeros((2, 3), int), np.zeros((3, 2), int), draw_songs("ab"))
    with pytest.raises(ValueError, match="finite"):
        score_figures(np.zeros((2, 3), int), np.full((2, 3), np.inf), draw_songs("ab"))

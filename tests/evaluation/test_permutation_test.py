"""Models that are equally good do not differ, however few the songs; better ones do."""

import numpy as np
import pytest

from irmas_dist.evaluation.bootstrap import Draws, draw_songs
from irmas_dist.evaluation.metrics import decision_metrics, ranking_metrics
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.permutation_test import Judged, _figures, least_p_value, p_values
from irmas_dist.instruments import UNKNOWN

CLIPS = 4
"""Clips of a song."""


def labelled(rng, songs):
    """Labels of clips, alike within a song, and their songs."""
    labels = np.repeat(rng.random((songs, 11)) < 0.3, CLIPS, axis=0).astype(np.int8)
    return labels, draw_songs([f"song {clip // CLIPS}" for clip in range(len(labels))], 1)


def judge(rng, labels, evidence=2.0):
    """A model whose errors on a song are alike."""
    of_songs = np.repeat(rng.normal(0, 1.5, (len(labels) // CLIPS, 11)), CLIPS, axis=0)
    logits = evidence * (labels * 2 - 1) + of_songs + rng.normal(size=labels.shape)
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return Judged(scores, decide(scores, 0.5))


@pytest.mark.parametrize("songs", [8, 20])
def test_equally_good_models_differ_in_one_comparison_of_twenty(songs):
    rng = np.random.default_rng(songs)
    found = {}
    for _ in range(120):
        labels, draws = labelled(rng, songs)
        models = judge(rng, labels), judge(rng, labels)
        for metric, p in p_values(labels, *models, draws, swaps=200).items():
            found.setdefault(metric, []).append(p)
    for values in found.values():
        assert np.mean(np.array(values) < 0.05) < 0.12  # 3.5 standard deviations above 0.05
        assert 0.35 < np.mean(values) < 0.75


def test_a_better_model_differs_by_every_metric():
    rng = np.random.default_rng(0)
    labels, draws = labelled(rng, 30)
    found = p_values(labels, judge(rng, labels, 4.0), judge(rng, labels, 1.0), draws)
    assert max(found.values()) < 0.01


def test_no_swap_gives_the_figures_of_either_model():
    rng = np.random.default_rng(1)
    labels, draws = labelled(rng, 9)
    labels[rng.random(labels.shape) < 0.2] = UNKNOWN
    first = judge(rng, labels)
    # On another scale, which ranks do not see.
    second = Judged(judge(rng, labels).scores * np.float32(0.1), judge(rng, labels).decisions)
    song = np.concatenate([draws.song, draws.songs + draws.song])
    ones, zeros = np.ones((1, draws.songs)), np.zeros((1, draws.songs))
    times = np.concatenate([np.hstack([ones, zeros]), np.hstack([zeros, ones])])
    figures = _figures(np.tile(labels, (2, 1)), first, second, Draws(song, times))
    for row, model in enumerate((first, second)):
        expected = decision_metrics(labels, model.decisions) | ranking_metrics(labels, model.scores)
        for metric, values in figures.items():
            assert values[row] == pytest.approx(expected[metric])


def test_a_model_does_not_differ_from_itself_whatever_is_swapped():
    rng = np.random.default_rng(2)
    labels, draws = labelled(rng, 12)
    model = judge(rng, labels)
    assert set(p_values(labels, model, model, draws, swaps=50).values()) == {1.0}


@pytest.mark.parametrize("songs", [1, 3, 6])
def test_few_songs_that_all_agree_are_as_sure_as_they_can_be(songs):
    rng = np.random.default_rng(3)
    labels, draws = labelled(rng, songs)
    labels[:, 0] = 1
    right, wrong = labels.astype(np.float32), (1 - labels).astype(np.float32)
    models = (Judged(scores, decide(scores, 0.5)) for scores in (right, wrong))
    found = p_values(labels, *models, draws)
    assert found["micro_f1"] == pytest.approx(least_p_value(songs), abs=0.01)

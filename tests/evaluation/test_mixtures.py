import numpy as np
import pytest

from irmas_dist.evaluation.mixtures import mixed_scores
from irmas_dist.evaluation.scores import Scores
from irmas_dist.instruments import IRMAS


def single_label(clips_each=3):
    labels = np.eye(11, dtype=np.uint8).repeat(clips_each, axis=0)
    names = [f"clip {number}" for number in range(len(labels))]
    values = np.random.default_rng(0).random(labels.shape, dtype=np.float32)
    return Scores(names, ["training"] * len(names), names, labels, values, IRMAS)


def test_mixtures_have_as_many_instruments_as_their_counts_say():
    mixed = mixed_scores(single_label(), counts=(1, 2, 1), mixtures=4_000)
    share = np.bincount(mixed.labels.sum(axis=1), minlength=4) / 4_000
    np.testing.assert_allclose(share, [0, 0.25, 0.5, 0.25], atol=0.03)


def test_the_scores_of_a_mixture_are_the_mean_of_its_clips():
    scores = single_label(clips_each=1)
    mixed = mixed_scores(scores, counts=(0, 1), mixtures=50)
    for labels, values in zip(mixed.labels, mixed.scores, strict=True):
        expected = scores.scores[np.flatnonzero(labels)].mean(axis=0)
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_the_same_seed_mixes_the_same_clips():
    once, again, other = (mixed_scores(single_label(), mixtures=50, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(once.scores, again.scores)
    assert (once.scores != other.scores).any()


def test_clips_of_several_instruments_are_not_mixed():
    scores = single_label()
    scores.labels[0, :2] = 1
    with pytest.raises(ValueError, match="one instrument each"):
        mixed_scores(scores)
    with pytest.raises(ValueError, match="as many instruments"):
        mixed_scores(single_label(), counts=(1,) * 12)

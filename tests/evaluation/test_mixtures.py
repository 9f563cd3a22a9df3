from dataclasses import replace

import numpy as np
import pytest

from irmas_dist.evaluation.mixtures import mixed_scores
from irmas_dist.evaluation.scores import Scores
from irmas_dist.instruments import IRMAS, Vocabulary


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


def test_as_many_instruments_are_mixed_as_there_are_and_all_must_occur():
    scores = single_label()
    few = replace(
        scores, labels=scores.labels[:, :2][:6], scores=scores.scores[:6, :2],
        clip_ids=scores.clip_ids[:6], vocabulary=Vocabulary.of({"cel": "cello", "cla": "clarinet"}),
    )  # fmt: skip
    assert set(mixed_scores(few).labels.sum(axis=1)) == {1, 2}
    only = replace(few, labels=few.labels[:3], scores=few.scores[:3], clip_ids=few.clip_ids[:3])
    with pytest.raises(ValueError, match="mixtures of 2 clips need as many instruments"):
        mixed_scores(only)
    one = replace(
        only, labels=only.labels[:, :1], scores=only.scores[:, :1],
        vocabulary=Vocabulary.of({"cel": "cello"}),
    )  # fmt: skip
    assert set(mixed_scores(one).labels.ravel()) == {1}

"""Logits are brought to the moments that they have elsewhere, and prevalences to those known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import Scores
from irmas_dist.inference.logit_matching import (
    effective_instruments,
    logits_of,
    match_moments,
    moments,
    prevalence_weights,
)
from irmas_dist.instruments import UNKNOWN, Vocabulary


def mean_of_windows(logits: np.ndarray) -> np.ndarray:
    """Score clips of four windows."""
    scores = 1 / (1 + np.exp(-logits))
    return scores.reshape(-1, 4, logits.shape[1]).mean(axis=1).astype(np.float32)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_clips_have_the_moments_that_windows_are_scaled_for(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(rng.normal(-2, 1, 3), rng.uniform(0.5, 2, 3), (400, 3))
    goal = rng.normal(-2, 1, 3), rng.uniform(0.7, 1.5, 3)
    before = moments(logits_of(mean_of_windows(logits)), np.ones(100))
    scale, offset = match_moments(logits, mean_of_windows, goal, share)
    after = moments(logits_of(mean_of_windows(logits * scale + offset)), np.ones(100))
    for now, then, there in zip(after, before, goal, strict=True):
        np.testing.assert_allclose(now, share * there + (1 - share) * then, atol=0.02)
    assert (scale > 0).all()


def test_nothing_is_changed_of_what_is_there() -> None:
    logits = np.random.default_rng(0).normal(0, 1, (400, 2))
    here = moments(logits_of(mean_of_windows(logits)), np.ones(100))
    scale, offset = match_moments(logits, mean_of_windows, here, 1.0)
    np.testing.assert_allclose(scale, 1, atol=1e-6)
    np.testing.assert_allclose(offset, 0, atol=1e-6)


def test_instruments_are_as_frequent_as_they_are_known_to_be() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((500, 3)) < [0.2, 0.4, 0.6]).astype(np.int8)
    clips = [str(clip) for clip in range(500)]
    vocabulary = Vocabulary.of({"a": "A", "b": "B", "c": "C"})
    table = Scores(clips, clips, clips, labels, labels.astype(np.float32), vocabulary)
    weights = prevalence_weights(table, {"a": 0.9, "c": 0.0})
    assert weights.mean() == pytest.approx(1)
    shares = np.average(labels, axis=0, weights=weights)
    np.testing.assert_allclose(shares[[0, 2]], [0.9, 0.0], atol=1e-3)
    assert shares[1] == pytest.approx(0.4, abs=0.12)  # few clips have a and not c
    np.testing.assert_array_equal(prevalence_weights(table, {}), np.ones(500))


@pytest.mark.parametrize(("label", "where"), [(0, "none"), (1, "all")])
def test_a_prevalence_that_no_weights_give_is_refused(label: int, where: str) -> None:
    labels = np.array([[label, 0], [label, 1]], np.int8)
    clips, vocabulary = ["1", "2"], Vocabulary.of({"a": "A", "b": "B"})
    table = Scores(clips, clips, clips, labels, labels.astype(np.float32), vocabulary)
    prevalence_weights(table, {"a": label})
    with pytest.raises(IrmasError, match=f"--prevalence a=0.3: it plays in {where} of the model's"):
        prevalence_weights(table, {"a": 0.3})


def test_prevalence_is_of_the_clips_in_which_an_instrument_is_known() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((500, 2)) < 0.3).astype(np.int8)
    unknown = rng.random(500) < 0.8
    labels[unknown, 0] = UNKNOWN
    clips = [str(clip) for clip in range(500)]
    vocabulary = Vocabulary.of({"a": "A", "b": "B"})
    table = Scores(clips, clips, clips, labels, np.zeros((500, 2), np.float32), vocabulary)
    weights = prevalence_weights(table, {"a": 0.5})
    assert np.average(labels[~unknown, 0], weights=weights[~unknown]) == pytest.approx(0.5)
    assert len(set(weights[unknown])) == 1


def test_the_likeliest_instruments_are_counted_by_how_often_they_are() -> None:
    one = np.eye(4, dtype=np.float32)[[0] * 20]
    equal = np.eye(4, dtype=np.float32)[list(range(4)) * 5]
    silent = np.zeros((30, 4), np.float32)
    assert effective_instruments(one, np.ones(20)) == pytest.approx(1)
    assert effective_instruments(equal, np.ones(20)) == pytest.approx(4)
    both = np.concatenate([equal, silent])
    assert effective_instruments(both, np.ones(50)) == pytest.approx(4)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.0]))
def test_clips_have_the_prevalence_that_is_stated_or_it_is_refused(
    seed: int, stated: int, share: float
) -> None:
    """Of one to three instruments each, no clips have four that always play."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((200, 4), np.int8)
    for row in labels:
        row[rng.choice(4, rng.integers(1, 4), replace=False)] = 1
    vocabulary = Vocabulary.of({code: code for code in "abcd"})
    ids = [str(clip) for clip in range(200)]
    scores = Scores(ids, ["x"] * 200, ids, labels, labels.astype(np.float32), vocabulary)
    prevalence = dict.fromkeys("abcd"[:stated], share)
    if stated == 4 and share in (0.0, 0.01, 0.9, 1.0):
        with pytest.raises(IrmasError, match="--prevalence"):
            prevalence_weights(scores, prevalence)
        return
    weights = prevalence_weights(scores, prevalence)
    found = np.average(labels[:, :stated], axis=0, weights=weights)
    np.testing.assert_allclose(found, share, atol=0.02)

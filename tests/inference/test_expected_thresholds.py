"""Thresholds for clips without labels are those that calibrated scores promise to be best."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.metrics import f_measure
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.scores import Scores
from irmas_dist.inference.expected_thresholds import PRIOR_CLIPS, expected_thresholds
from irmas_dist.instruments import Vocabulary

VOCABULARY = Vocabulary(("pia", "vio"), ("piano", "violin"))
CLIPS = 4_000


def calibrated(clips: int, concentration: float, seed: int = 0) -> np.ndarray:
    """Scores that are probabilities; the more concentrated, the less sure."""
    rng = np.random.default_rng(seed)
    return rng.beta(concentration, 2 * concentration, (clips, 2)).astype(np.float32)


def validation(scores: np.ndarray) -> Scores:
    labels = (np.random.default_rng(1).random(scores.shape) < scores).astype(np.int8)
    names = [f"clip {clip}" for clip in range(len(scores))]
    return Scores(names, ["validation"] * len(names), names, labels, scores, VOCABULARY)


def expected(
    scores: np.ndarray, known: float = 0.5, objective: str = "macro_f1", evidence: float = 1.0
) -> np.ndarray:
    labelled = validation(calibrated(CLIPS, 0.5))
    settings = ThresholdSettings.model_validate({"objective": objective, "evidence": evidence})
    everything = np.ones(CLIPS)
    return expected_thresholds(
        labelled, everything, scores, settings, np.full(2, known, np.float32)
    )


@pytest.mark.parametrize("concentration", [0.3, 1.0, 4.0])
def test_the_best_threshold_is_half_of_the_f1_that_it_reaches(concentration: float) -> None:
    """Theorem 1 of Lipton et al. (2014)."""
    scores = calibrated(CLIPS, concentration)
    for threshold, column in zip(expected(scores), scores.T, strict=True):
        predicted = column >= threshold
        reached = f_measure(column[predicted].sum(), predicted.sum(), column.sum())
        assert threshold == pytest.approx(reached / 2, abs=0.06)


def test_scores_need_not_be_probabilities() -> None:
    """A threshold moves as the scores do where those of validation moved alike."""

    def distorted(scores: np.ndarray) -> np.ndarray:
        return expit(2 * logit(np.clip(scores, 0.01, 0.99)) + 1).astype(np.float32)

    plain = validation(calibrated(CLIPS, 0.5))
    other = replace(plain, scores=distorted(plain.scores))
    found = [
        expected_thresholds(
            labelled, np.ones(CLIPS), scores, ThresholdSettings(), known.astype(np.float32)
        )
        for labelled, scores, known in (
            (plain, calibrated(CLIPS, 0.5, seed=2), np.full(2, 0.3)),
            (other, distorted(calibrated(CLIPS, 0.5, seed=2)), distorted(np.full(2, 0.3))),
        )
    ]
    np.testing.assert_allclose(distorted(found[0]), found[1], atol=0.06)


def test_clips_of_validation_count_as_often_as_they_are_to() -> None:
    scores = calibrated(CLIPS, 0.5)
    right = validation(scores)
    labels = np.concatenate([right.labels, 1 - right.labels])
    twice = replace(right, labels=labels, scores=np.concatenate([scores, scores]))
    weights = np.repeat([1.0, 0.0], CLIPS)
    known = np.full(2, 0.3, np.float32)
    mixed, clean = (
        expected_thresholds(twice, each, scores, ThresholdSettings(), known)
        for each in (np.ones(2 * CLIPS), weights)
    )
    np.testing.assert_allclose(clean, expected(scores, known=0.3), atol=0.06)
    assert (np.abs(mixed - clean) > 0.1).any()


def test_of_a_model_that_is_less_sure_less_is_asked() -> None:
    sure, unsure = (expected(calibrated(CLIPS, c)) for c in (0.3, 4.0))
    assert (unsure < sure - 0.05).all()


def test_half_of_the_evidence_that_scores_lack_is_given_back() -> None:
    scores = calibrated(CLIPS, 0.5)
    middle = logit(scores.mean(axis=0, dtype=np.float64))
    whole, less = (logit(expected(scores, 0.3, evidence=share)) - middle for share in (1.0, 0.4))
    known = (logit(0.3) - middle) * PRIOR_CLIPS / (CLIPS + PRIOR_CLIPS)
    np.testing.assert_allclose(less - known, 0.7 * (whole - known), atol=1e-3)


def test_thresholds_that_are_known_count_the_more_the_fewer_clips_there_are() -> None:
    scores = calibrated(CLIPS, 0.5)
    alone = expected(scores)
    for clips in (1, PRIOR_CLIPS, CLIPS):
        few = np.resize(scores, (clips, 2))
        low, high = (expected(few, known) for known in (0.2, 0.8))
        share = (logit(high) - logit(low)) / (logit(0.8) - logit(0.2))
        np.testing.assert_allclose(share, PRIOR_CLIPS / (clips + PRIOR_CLIPS), atol=1e-4)
    assert (np.abs(alone - 0.3) < 0.1).all()


def test_what_is_never_to_be_predicted_stays_so() -> None:
    for objective in ("macro_f1", "macro_f2"):
        assert (expected(calibrated(100, 0.5), float(NEVER), objective) == NEVER).all()
    silent = np.zeros((100, 2), np.float32)
    np.testing.assert_allclose(expected(silent, 0.5), 0.5)


def test_one_threshold_for_all_heeds_only_instruments_that_may_be_predicted() -> None:
    scores, other = calibrated(100, 0.5), calibrated(100, 4.0, seed=3)
    settings = ThresholdSettings(rule="global")
    known = np.array([0.3, NEVER], np.float32)
    found = [
        expected_thresholds(
            validation(calibrated(CLIPS, 0.5)), np.ones(CLIPS),
            np.stack([scores[:, 0], second], axis=1), settings, known,
        )
        for second in (scores[:, 1], other[:, 1])
    ]  # fmt: skip
    assert found[0][0] == pytest.approx(found[1][0], abs=0.01)
    assert found[0][1] == found[1][1] == NEVER


def test_other_objectives_are_kept() -> None:
    scores = calibrated(100, 0.5)
    assert (expected(scores, objective="macro_f2") < expected(scores)).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_known_thresholds_near_0_or_1_stay_there_for_few_clips(sign: int) -> None:
    scores = (sign * calibrated(CLIPS, 0.5) * 1e-4 % 1).astype(np.float32)
    labelled = validation(scores)
    labels = (np.random.default_rng(1).random(scores.shape) < calibrated(CLIPS, 0.5)).astype(
        np.int8
    )
    known = np.full(2, 1e-5 if sign > 0 else 1 - 1e-5, np.float32)
    found = expected_thresholds(
        replace(labelled, labels=labels), np.ones(CLIPS), scores[:3], ThresholdSettings(), known
    )
    assert (np.minimum(found, 1 - found) < 9.5e-5).all()

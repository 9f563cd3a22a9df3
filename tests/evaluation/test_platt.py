"""Calibration: scores become probabilities, silence stays silence, and no order is turned round."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from irmas_dist.evaluation.platt import LEAST_SCALE, Platt, fit_platt
from irmas_dist.instruments import UNKNOWN


def drawn(truth: Platt, clips: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and scores of which ``truth`` is the calibration."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.02, 0.98, (clips, 3)).astype(np.float32)
    labels = (rng.uniform(size=scores.shape) < truth(scores)).astype(np.int8)
    return labels, scores


@pytest.mark.parametrize("truth", [Platt(), Platt(0.5, -1.0), Platt(2.5, 0.7)])
def test_the_calibration_that_scores_were_drawn_by_is_found(truth: Platt) -> None:
    labels, scores = drawn(truth)
    assert fit_platt(labels, scores) == pytest.approx(truth, abs=0.12)


@pytest.mark.parametrize("scale", [0.05, 1.0, 40.0])
@pytest.mark.parametrize("offset", [-6.0, 0.0, 6.0])
def test_scores_that_are_far_off_are_calibrated_as_well_as_can_be(
    scale: float, offset: float
) -> None:
    """Where nearly all scores are near 0 or 1, too: no other calibration is more likely."""
    rng = np.random.default_rng(0)
    labels = (rng.uniform(size=(200, 3)) < 0.2).astype(np.int8)
    scores = Platt(scale, offset)(expit(rng.normal(labels, 1.0)).astype(np.float32))

    def likelihood(one: Platt) -> float:
        chance = np.where(labels, one(scores), 1 - one(scores))
        return float(np.log(chance).sum())

    found = fit_platt(labels, scores)
    others = [
        Platt(found.scale * stretch, found.offset + shift)
        for stretch in (0.9, 1.0, 1.1)
        for shift in (-0.3, 0.0, 0.3)
    ]
    assert max(map(likelihood, others)) <= likelihood(found) + 0.1
    assert likelihood(found) > -0.6 * labels.size  # that of chance is log(2)


def test_where_nothing_is_known_scores_stay_as_they_are() -> None:
    labels, scores = drawn(Platt())
    assert fit_platt(np.full_like(labels, UNKNOWN), scores) == Platt()


def test_unknown_labels_do_not_count() -> None:
    labels, scores = drawn(Platt(0.5, -1.0))
    hidden = labels.copy()
    hidden[::2] = UNKNOWN
    assert fit_platt(hidden, scores) == fit_platt(labels[1::2], scores[1::2])


def test_a_clip_counts_as_often_as_its_weight_says() -> None:
    labels, scores = drawn(Platt(0.5, -1.0), clips=300)
    counts = np.arange(300) % 4
    repeated = (np.repeat(each, counts, axis=0) for each in (labels, scores))
    expected = fit_platt(*repeated)
    assert fit_platt(labels, scores, counts.astype(float)) == pytest.approx(expected, rel=1e-5)
    assert fit_platt(labels, scores) != pytest.approx(expected, rel=1e-3)


@given(
    scale=st.floats(0.05, 20), offset=st.floats(-5, 5),
    scores=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20),
)  # fmt: skip
def test_scores_stay_in_order_from_0_to_1_and_silence_stays_0(
    scale: float, offset: float, scores: list[float]
) -> None:
    ordered = np.sort(np.array(scores, np.float32))
    found = Platt(scale, offset)(ordered)
    assert found.dtype == np.float32
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert (found[ordered == 0] == 0).all()
    assert (found[ordered > 1e-6] > 0).all()


@pytest.mark.parametrize("turned", [False, True])
def test_scores_that_are_always_right_or_always_wrong_have_a_calibration(turned: bool) -> None:
    labels = np.tile(np.eye(2, dtype=np.int8), (20, 1))
    scores = np.abs(labels - (0.99 if turned else 0.01)).astype(np.float32)
    found = fit_platt(labels, scores)
    assert np.isfinite(found).all()
    assert found.scale >= LEAST_SCALE
    if not turned:
        assert found(scores[labels == 1]).min() > 0.9


def test_silent_clips_do_not_count_in_a_fit() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.1, 0.9, (200, 3)).astype(np.float32)
    labels = (rng.random((200, 3)) < scores).astype(np.int8)
    silent = np.zeros((50, 3), np.float32)
    with_silence = fit_platt(
        np.concatenate([labels, rng.integers(0, 2, (50, 3), np.int8)]),
        np.concatenate([scores, silent]),
    )
    assert with_silence == pytest.approx(fit_platt(labels, scores), abs=1e-4)

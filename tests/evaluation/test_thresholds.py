"""Settings choose the kind of thresholds that are fitted, and their objective."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import expit, logit

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation import thresholds as module
from irmas_dist.evaluation.metrics import overall_metrics
from irmas_dist.evaluation.objectives import objective_of
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.thresholds import averaged_thresholds, fit_thresholds
from irmas_dist.instruments import UNKNOWN
from tests.evaluation.test_threshold_search import value


def test_settings_name_what_is_searched_for(forest):
    labels, scores = forest.labels[::20], forest.scores[::20]
    for name in ("subset_accuracy", "cost"):
        chosen = ThresholdSettings(objective=name, cost_of_missing=3.0)
        exact = fit_thresholds(labels, scores, ThresholdSettings())
        fitted = fit_thresholds(labels, scores, chosen)
        assert fitted.dtype == np.float32
        better = value(objective_of(chosen), labels, scores, fitted)
        assert better > value(objective_of(chosen), labels, scores, exact)
        np.testing.assert_array_equal(fitted, fit_thresholds(labels, scores, chosen))


def test_unknown_rules_are_refused():
    with pytest.raises(ValidationError, match="rule"):
        ThresholdSettings(rule="guess")


def test_averaged_thresholds_do_better_than_the_best_ones_on_other_clips() -> None:
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(20):
        labels = (rng.random((2, 60, 11)) < 0.2).astype(np.int8)
        logits = rng.normal(2 * labels - 1, 1)
        scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
        settings = ThresholdSettings(evidence=1)
        macro = [
            overall_metrics(labels[1], scores[1], fit(labels[0], scores[0], settings))
            for fit in (averaged_thresholds, fit_thresholds)
        ]
        gains.append(macro[0]["macro_f1"] - macro[1]["macro_f1"])
    assert np.mean(gains) > 0.005


def test_an_instrument_that_never_occurs_is_never_predicted_by_averaged_thresholds() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 3)) < 0.3).astype(np.int8)
    labels[:, 1] = 0
    labels[:, 2] = 0
    labels[0, 2] = 1  # In two thirds of the samples.
    scores = rng.random((200, 3)).astype(np.float32)
    scores[0, 2] = 1.0
    found = averaged_thresholds(labels, scores, ThresholdSettings())
    assert found.dtype == np.float32
    assert found[1] == NEVER
    assert found[2] <= 1
    for rule in ("macro_f1", "cost"):
        settings = ThresholdSettings(rule="global", objective=rule)
        assert len(set(averaged_thresholds(labels, scores, settings).tolist())) == 1


@pytest.mark.parametrize("rule", ["global", "per_instrument"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_averaged_thresholds_suit_scores_near_0_or_1(rule: str, mirrored: bool) -> None:
    """As a rare instrument of many has, or a calibrated ensemble."""
    rng = np.random.default_rng(0)
    labels = (rng.random((1000, 3)) < 0.1).astype(np.int8)
    scores = np.where(labels, rng.uniform(2e-5, 9e-5, labels.shape), 3e-5 * rng.random((1000, 3)))
    if mirrored:
        labels, scores = 1 - labels, 1 - scores
    settings = ThresholdSettings(rule=rule, evidence=1)
    reached = [
        overall_metrics(labels, scores, fit(labels, scores, settings))["macro_f1"]
        for fit in (averaged_thresholds, fit_thresholds)
    ]
    assert reached[0] == pytest.approx(reached[1], abs=0.01)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    evidence=st.floats(0.01, 1),
    rule=st.sampled_from(["global", "per_instrument"]),
    objective=st.sampled_from(["macro_f1", "micro_f1", "subset_accuracy"]),
    weighted=st.booleans(),
    scale=st.sampled_from([1, 1e-4]),
)
def test_evidence_is_the_share_of_log_odds_beyond_the_mean_score_that_thresholds_keep(
    seed: int, evidence: float, rule: str, objective: str, weighted: bool, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((60, 3)) < [0.5, 0.2, 0]).astype(np.int8)
    scores = (scale * expit(rng.normal(labels - 1, 1))).astype(np.float32)
    weights = rng.random(60) if weighted else None
    fitted, moved = (
        averaged_thresholds(labels, scores, one, weights)
        for one in (
            ThresholdSettings(rule=rule, objective=objective, evidence=share)
            for share in (1, evidence)
        )
    )
    never = fitted == NEVER
    np.testing.assert_array_equal(moved == NEVER, never)
    means = np.average(scores.astype(float), axis=0, weights=weights)
    if rule == "global":
        means[:] = means.mean()
        assert len(set(moved)) == 1
    kept = logit(moved.astype(float)) - logit(means)
    beyond = logit(fitted.astype(float)) - logit(means)
    np.testing.assert_allclose(kept[~never], evidence * beyond[~never], atol=1e-4)


def test_where_scores_have_less_evidence_thresholds_that_say_so_do_better() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((2, 4000, 11)) < 0.2).astype(np.int8)
    logits = rng.normal(3 * labels - 2, 1)
    means = logit(expit(logits[0]).mean(axis=0))
    known = expit(logits[0]).astype(np.float32)
    fainter = expit(means + 0.6 * (logits[1] - means)).astype(np.float32)
    reached = {
        evidence: overall_metrics(
            labels[1],
            fainter,
            averaged_thresholds(labels[0], known, ThresholdSettings(evidence=evidence)),
        )["macro_f1"]
        for evidence in (0.3, 0.6, 1)
    }
    best = overall_metrics(
        labels[1], fainter, fit_thresholds(labels[1], fainter, ThresholdSettings())
    )["macro_f1"]
    assert reached[0.6] == pytest.approx(best, abs=0.005)
    assert reached[0.6] > max(reached[0.3], reached[1]) + 0.02


def test_weights_say_how_often_a_clip_is_drawn() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 2)) < 0.5).astype(np.int8)
    scores = rng.random((300, 2)).astype(np.float32)
    first = np.arange(300) < 100
    weighted = averaged_thresholds(labels, scores, ThresholdSettings(), first.astype(float))
    alone = averaged_thresholds(labels[first], scores[first], ThresholdSettings())
    np.testing.assert_allclose(weighted, alone, atol=0.2)
    searched = ThresholdSettings(objective="cost")
    assert averaged_thresholds(labels, scores, searched, first.astype(float)).shape == (2,)


def test_clips_of_which_nothing_is_known_are_not_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """An objective is of as many clips as its metric."""
    seen = []

    def objective(labels, candidates):
        seen.append(len(labels))
        return np.zeros(len(candidates))

    monkeypatch.setattr(module, "objective_of", lambda settings: objective)
    labels = np.array([[1, 0], [0, 1], [UNKNOWN, UNKNOWN]], np.int8)
    scores = np.random.default_rng(0).random((3, 2)).astype(np.float32)
    fit_thresholds(labels, scores, ThresholdSettings(objective="subset_accuracy"))
    assert set(seen) == {2}

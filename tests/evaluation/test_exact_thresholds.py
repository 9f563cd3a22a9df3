"""No threshold gives a better F1 than the fitted ones, wherever all can be tried."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.metrics import decision_figures
from irmas_dist.evaluation.operating_points import NEVER, decide
from irmas_dist.evaluation.thresholds import fit_thresholds

PER_INSTRUMENT = ThresholdSettings(rule="per_instrument", objective="macro_f1")


def column(values, dtype=np.float32):
    return np.array(values, dtype=dtype)[:, None]


def f1(labels, scores, thresholds, average):
    figures = decision_figures(labels, decide(scores, thresholds))
    return figures.overall[f"{average}_f1"][0] if average else figures.instruments["f1"][0]


def every_threshold(scores):
    """Brute force: one threshold for every set of clips that a threshold can predict."""
    return [*np.unique(scores), NEVER]


@st.composite
def labelled_scores(draw, max_clips=12, max_instruments=3):
    shape = draw(st.integers(1, max_clips)), draw(st.integers(1, max_instruments))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = (rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))).astype(np.uint8)
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    return labels, (rng.integers(0, levels + 1, shape) / levels).astype(np.float32)


@settings(max_examples=100)
@given(labelled_scores())
def test_no_threshold_gives_an_instrument_a_better_f1(labelled):
    labels, scores = labelled
    fitted = f1(labels, scores, fit_thresholds(labels, scores, PER_INSTRUMENT), None)
    for threshold in every_threshold(scores):
        assert (fitted >= f1(labels, scores, threshold, None)).all()


@settings(max_examples=100)
@given(labelled_scores(), st.sampled_from(["micro", "macro"]))
def test_no_single_threshold_is_better_than_the_global_one(labelled, average):
    labels, scores = labelled
    thresholds = fit_thresholds(
        labels, scores, ThresholdSettings(rule="global", objective=f"{average}_f1")
    )
    assert thresholds.shape == (labels.shape[1],)
    assert len(set(thresholds.tolist())) == 1
    best = max(f1(labels, scores, threshold, average) for threshold in every_threshold(scores))
    assert f1(labels, scores, thresholds, average) == pytest.approx(best, abs=1e-12)


@settings(max_examples=60)
@given(labelled_scores(max_clips=6))
def test_no_combination_of_thresholds_has_a_better_micro_f1(labelled):
    labels, scores = labelled
    settings_ = ThresholdSettings(rule="per_instrument", objective="micro_f1")
    fitted = f1(labels, scores, fit_thresholds(labels, scores, settings_), "micro")
    choices = [every_threshold(scores[:, i]) for i in range(labels.shape[1])]
    best = max(
        f1(labels, scores, np.array(thresholds), "micro")
        for thresholds in itertools.product(*choices)
    )
    assert fitted == pytest.approx(best, abs=1e-12)


def test_each_choice_is_best_at_its_own_objective_on_irmas(forest):
    results = {}
    for rule, objective in itertools.product(["global", "per_instrument"], ["macro", "micro"]):
        chosen = ThresholdSettings(rule=rule, objective=f"{objective}_f1")
        thresholds = fit_thresholds(forest.labels, forest.scores, chosen)
        assert thresholds.dtype == np.float32
        results[rule, objective] = {
            average: f1(forest.labels, forest.scores, thresholds, average)
            for average in ("macro", "micro")
        }
    for objective in ("macro", "micro"):
        ranked = sorted(results, key=lambda key: results[key][objective], reverse=True)
        assert ranked[0] == ("per_instrument", objective)
        assert results["global", objective][objective] == max(
            results["global", other][objective] for other in ("macro", "micro")
        )


def test_the_threshold_lies_midway_between_the_scores_it_separates():
    labels, scores = column([1, 1, 0, 0], int), column([0.9, 0.7, 0.4, 0.1])
    assert fit_thresholds(labels, scores, PER_INSTRUMENT) == pytest.approx([0.55])


def test_when_all_is_best_predicted_the_threshold_is_half_the_smallest_score():
    labels, scores = column([1, 1, 1], int), column([0.9, 0.6, 0.4])
    assert fit_thresholds(labels, scores, PER_INSTRUMENT) == pytest.approx([0.2])


def test_equal_scores_get_equal_decisions():
    labels, scores = column([1, 0, 0, 1], int), column([0.8, 0.8, 0.3, 0.8])
    thresholds = fit_thresholds(labels, scores, PER_INSTRUMENT)
    assert decide(scores, thresholds)[:, 0].tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize("score", [0.0, 0.37, 1.0])
def test_with_constant_scores_everything_is_predicted(score):
    labels = column([0, 1, 0], int)
    scores = np.full((3, 1), score, dtype=np.float32)
    thresholds = fit_thresholds(labels, scores, PER_INSTRUMENT)
    assert decide(scores, thresholds).all()


@pytest.mark.parametrize("rule", ["global", "per_instrument"])
@pytest.mark.parametrize("objective", ["macro_f1", "micro_f1"])
def test_an_instrument_that_never_occurs_is_never_predicted(rule, objective):
    labels, scores = column([0, 0, 0], int), column([0.2, 0.9, 1.0])
    chosen = ThresholdSettings(rule=rule, objective=objective)
    thresholds = fit_thresholds(labels, scores, chosen)
    assert thresholds.tolist() == [NEVER]
    assert NEVER > 1
    assert not decide(np.ones((5, 1)), thresholds).any()


def test_for_micro_f1_an_instrument_that_costs_more_than_it_gains_is_never_predicted():
    labels = np.array([[1, 0]] * 8 + [[0, 0], [0, 1]], dtype=np.uint8)
    scores = np.full((10, 2), 0.5, dtype=np.float32)
    micro = ThresholdSettings(objective="micro_f1")
    assert decide(scores, fit_thresholds(labels, scores, micro))[0].tolist() == [1, 0]
    assert decide(scores, fit_thresholds(labels, scores, PER_INSTRUMENT))[0].tolist() == [1, 1]


def test_neighbouring_numbers_are_separated():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    labels, scores = column([1, 0], int), column([high, low])
    assert decide(scores, fit_thresholds(labels, scores, PER_INSTRUMENT))[:, 0].tolist() == [1, 0]

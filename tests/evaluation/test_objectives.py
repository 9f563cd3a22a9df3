"""Objectives have the values of scikit-learn, and settings name them."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation import objectives
from irmas_dist.evaluation.operating_points import decide
from tests.evaluation.test_exact_thresholds import labelled_scores


@settings(max_examples=60)
@given(labelled_scores(), st.sampled_from(["micro", "macro"]), st.sampled_from([0.5, 1, 2]))
def test_f_beta_is_that_of_scikit_learn(labelled, average, beta):
    labels, scores = labelled
    decisions = np.stack([decide(scores, threshold) for threshold in (0.0, 0.5, 1.1)])
    ours = objectives.f_beta(average, beta)(labels.astype(bool), decisions.astype(bool))
    for number, decided in enumerate(decisions):
        # Of one column scikit-learn would take 0 and 1 for two classes.
        theirs = sklearn.metrics.fbeta_score(
            *(np.column_stack([matrix, np.zeros(len(matrix))]) for matrix in (labels, decided)),
            beta=beta,
            average=None if average == "macro" else "micro",
            zero_division=0,
        )
        theirs = np.mean(theirs[:-1]) if average == "macro" else theirs
        assert ours[number] == pytest.approx(theirs, abs=1e-12)


def test_what_wrong_decisions_cost():
    labels = np.array([[1, 1, 0], [0, 0, 0]], bool)
    candidates = np.array([[[0, 0, 0], [0, 0, 0]], [[1, 1, 1], [0, 1, 0]]], bool)
    np.testing.assert_allclose(objectives.cost(3.0)(labels, candidates), [-3.0, -1.0])


@pytest.mark.parametrize(
    ("name", "value"),
    [("macro_f2", 0.5), ("micro_f05", 5 / 6), ("subset_accuracy", 0), ("cost", -3)],
)
def test_settings_name_an_objective(name, value):
    # One true positive, one false negative of the other instrument.
    labels = np.array([[1, 1]], bool)
    candidates = np.array([[[1, 0]]], bool)
    chosen = ThresholdSettings(objective=name, cost_of_missing=3.0)
    assert objectives.objective_of(chosen)(labels, candidates) == pytest.approx([value])

"""Settings choose the kind of thresholds that are fitted, and their objective."""

import numpy as np
import pytest
from pydantic import ValidationError

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.objectives import objective_of
from irmas_dist.evaluation.thresholds import fit_thresholds
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

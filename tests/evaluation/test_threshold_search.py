import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation import objectives
from irmas_dist.evaluation.operating_points import NEVER, decide
from irmas_dist.evaluation.threshold_search import best_global_threshold, search_thresholds
from irmas_dist.evaluation.thresholds import fit_thresholds
from tests.evaluation.test_exact_thresholds import every_threshold, labelled_scores

BY_NAME = {
    "macro_f2": objectives.f_beta("macro", 2),
    "micro_f05": objectives.f_beta("micro", 0.5),
    "subset_accuracy": objectives.subset_accuracy,
    "cost": objectives.cost(3.0),
}


def value(objective, labels, scores, thresholds):
    decisions = decide(scores, np.asarray(thresholds, np.float32)).astype(bool)
    return float(objective(labels.astype(bool), decisions[None])[0])


@settings(max_examples=25)
@given(labelled_scores(max_clips=6, max_instruments=2), st.sampled_from(sorted(BY_NAME)))
def test_no_combination_of_thresholds_is_better_where_all_can_be_tried(labelled, name):
    labels, scores = labelled
    found = search_thresholds(labels, scores, BY_NAME[name], starts=12)
    choices = [every_threshold(scores[:, i]) for i in range(labels.shape[1])]
    best = max(value(BY_NAME[name], labels, scores, t) for t in itertools.product(*choices))
    assert value(BY_NAME[name], labels, scores, found) == pytest.approx(best, abs=1e-9)


@settings(max_examples=25)
@given(labelled_scores(), st.sampled_from(sorted(BY_NAME)))
def test_no_single_threshold_is_better_than_the_global_one(labelled, name):
    labels, scores = labelled
    found = best_global_threshold(labels, scores, BY_NAME[name])
    assert len(set(found.tolist())) == 1
    best = max(value(BY_NAME[name], labels, scores, t) for t in every_threshold(scores))
    assert value(BY_NAME[name], labels, scores, found) == pytest.approx(best, abs=1e-9)


def test_the_search_finds_what_is_found_exactly_on_irmas(forest):
    labels, scores = forest.labels[::4], forest.scores[::4]
    for average in ("micro", "macro"):
        objective = objectives.f_beta(average, 1)
        exact = fit_thresholds(labels, scores, ThresholdSettings(objective=f"{average}_f1"))
        found = search_thresholds(labels, scores, objective, starts=3)
        best = value(objective, labels, scores, exact)
        assert value(objective, labels, scores, found) == pytest.approx(best, abs=1e-3)


def test_the_dearer_a_miss_the_more_is_predicted(forest):
    labels, scores = forest.labels[::20], forest.scores[::20]
    predicted = [
        decide(scores, search_thresholds(labels, scores, objectives.cost(missing), 2)).sum()
        for missing in (0.3, 1.0, 5.0)
    ]
    assert predicted[0] < predicted[1] < predicted[2]


@pytest.mark.parametrize("score", [0.0, 0.4, 1.0])
def test_constant_scores_predict_all_or_nothing(score):
    labels = np.array([[1, 0], [1, 0], [0, 0]], np.uint8)
    scores = np.full(labels.shape, score, np.float32)
    found = search_thresholds(labels, scores, objectives.cost(1.0), starts=2)
    assert decide(scores, found).tolist() == [[1, 0]] * 3
    assert found[1] == NEVER

import dataclasses

import numpy as np
import pytest

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.corpus.split import k_folds
from irmas_dist.evaluation.baselines import trivial
from irmas_dist.evaluation.bootstrap import draw_songs
from irmas_dist.evaluation.metrics import decision_metrics, overall_metrics
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.protocols import FOLDS, apply_protocols, cross_validated, decide_by
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import UNKNOWN

FITTED = ThresholdSettings()


def test_each_fold_is_decided_by_thresholds_that_do_not_depend_on_it(forest):
    folds = k_folds(forest.groups, forest.labels, 5, seed=0)
    decisions = cross_validated(forest.labels, forest.scores, folds, FITTED)
    for fold in range(5):
        held_out = folds == fold
        # Whatever the labels of a fold are, its decisions stay the same.
        changed = np.where(held_out[:, None], 1 - forest.labels, forest.labels)
        again = cross_validated(changed, forest.scores, folds, FITTED)
        np.testing.assert_array_equal(decisions[held_out], again[held_out])
        assert (decisions[~held_out] != again[~held_out]).any()


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_unknown_labels_of_one_instrument_change_no_others_cross_validated_decisions(forest, share):
    labels = forest.labels.copy()
    labels[np.random.default_rng(0).random(len(labels)) < share, 3] = UNKNOWN
    partly = dataclasses.replace(forest, labels=labels)
    known, masked = (decide_by("cross-validated", one, None, FITTED) for one in (forest, partly))
    others = np.arange(labels.shape[1]) != 3
    np.testing.assert_array_equal(known[:, others], masked[:, others])
    assert (known[:, 3] != masked[:, 3]).any()


def test_the_oracle_is_above_cross_validation(forest):
    folds = k_folds(forest.groups, forest.labels, 5, seed=0)
    honest = cross_validated(forest.labels, forest.scores, folds, FITTED)
    swept = decide(forest.scores, fit_thresholds(forest.labels, forest.scores, FITTED))
    macro = [decision_metrics(forest.labels, d)["macro_f1"] for d in (honest, swept)]
    assert macro[0] < macro[1]


def test_a_result_has_every_figure_with_an_interval_around_it(forest):
    draws = draw_songs(forest.groups, 300)
    result = apply_protocols(forest, {"validation": decide(forest.scores, 0.14)}, draws)[
        "validation"
    ]
    assert result.protocol == "validation"
    assert result.metrics == pytest.approx(overall_metrics(forest.labels, forest.scores, 0.14))
    assert result.intervals.keys() == result.metrics.keys()
    for name in ("micro_f1", "macro_f1", "lrap", "map", "coverage_error"):
        low, high = result.intervals[name]
        assert low < result.metrics[name] < high
    assert len(result.instrument_intervals) == 11


def test_figures_of_answers_that_use_no_audio_on_irmas(forest):
    reached = trivial(forest.labels)
    assert reached["every instrument"] == pytest.approx(
        {"micro_f1": 0.2692, "macro_f1": 0.2502}, abs=5e-5
    )
    assert reached["most frequent one"]["micro_f1"] == pytest.approx(0.268, abs=5e-4)
    assert reached["most frequent instruments"]["micro_f1"] == pytest.approx(0.4404, abs=5e-5)
    assert reached["one right per clip"]["micro_f1"] == pytest.approx(0.738, abs=5e-4)


def test_the_fixed_protocol_decides_from_one_half_on_whatever_the_labels(forest):
    decided = decide_by("fixed", forest, None, FITTED)
    assert (decided == (forest.scores >= 0.5)).all()


@pytest.mark.parametrize(
    "settings",
    [ThresholdSettings(objective="micro_f1"), ThresholdSettings(rule="global")],
    ids=["per instrument, for micro F1", "global, for macro F1"],
)
def test_thresholds_that_depend_on_other_instruments_are_cross_validated_with_these(
    forest, settings
) -> None:
    folds = k_folds(forest.groups, forest.labels == 1, FOLDS, 0)
    together = cross_validated(forest.labels, forest.scores, folds, settings)
    decided = decide_by("cross-validated", forest, None, settings)
    np.testing.assert_array_equal(decided, together)

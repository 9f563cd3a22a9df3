"""Thresholds, aggregation and hop are chosen by what they do on clips they were not fitted to."""

from pathlib import Path

import numpy as np
import pytest

from irmas_dist import stages
from irmas_dist.config import Recipe
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.aggregate import RULES
from irmas_dist.evaluation.scores import read_scores
from irmas_dist.evaluation.thresholds import ThresholdSettings, fit_thresholds
from irmas_dist.inference.predictor import Predictor
from irmas_dist.search.decisions import search_decisions
from irmas_dist.training.checkpoint import describe, pack_weights, save_model
from irmas_dist.training.learner import Learner


@pytest.fixture
def model(features: str, recipe: Recipe, tmp_path: Path) -> str:
    learner = Learner(stages.open_task(features, recipe), recipe)
    learner.run_epoch()
    description, validation = describe(learner, recipe.model_dump(mode="json"))
    save_model(tmp_path / "model", pack_weights(learner.network), description, validation)
    return str(tmp_path / "model")


def test_the_best_way_is_taken_and_the_model_decides_by_it(
    model: str, features: str, recipe: Recipe
) -> None:
    changed, candidates = search_decisions(model, ThresholdSettings(), features)
    assert len(candidates) == len(RULES) * 2
    values = [candidate.cross_validated for candidate in candidates]
    if not np.isnan(values).any():
        assert values == sorted(values, reverse=True)
        assert all(c.cross_validated <= c.fitted for c in candidates)
    best = candidates[0]
    predictor = Predictor.load(model)
    assert predictor.description == changed
    assert predictor.description.windows == best.windows
    validation = read_scores(f"{model}/validation.parquet")
    clips = stages.open_task(features, recipe).validation
    np.testing.assert_allclose(validation.scores, predictor.score_clips(clips), atol=1e-5)
    assert changed.scores["val_macro_f1"] == pytest.approx(best.fitted)


def test_without_features_only_the_thresholds_change(model: str) -> None:
    before = Predictor.load(model).description
    settings = ThresholdSettings(objective="micro_f1")
    changed, (only,) = search_decisions(model, settings)
    scores = read_scores(f"{model}/validation.parquet")
    fitted = fit_thresholds(scores.labels, scores.scores, settings)
    np.testing.assert_array_equal(only.thresholds, fitted)
    assert changed.windows == before.windows
    assert "micro F1" in changed.thresholds_from


def test_features_of_another_corpus_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(IrmasError):
        search_decisions(model, ThresholdSettings(), str(tmp_path))

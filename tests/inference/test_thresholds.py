"""Thresholds, aggregation and hop are chosen by figures on clips they were not fitted to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from irmas_dist.config.decisions import AGGREGATION_RULES, ThresholdSettings
from irmas_dist.config.recipe import Recipe
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.metrics import overall_metrics
from irmas_dist.evaluation.scores import read_scores, write_scores
from irmas_dist.evaluation.thresholds import averaged_thresholds, fit_thresholds
from irmas_dist.inference import thresholds
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.thresholds import search_decisions
from irmas_dist.training.describe import describe
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import open_training_data
from irmas_dist.training.model_description import read_description
from irmas_dist.training.model_directory import pack_weights, save_model, scorer_identity
from irmas_dist.training.records import ValidationRecord


@pytest.fixture
def model(features: str, recipe: Recipe, tmp_path: Path) -> str:
    learner = Learner(open_training_data(features, recipe), recipe)
    learner.run_epoch()
    description, validation = describe(learner, recipe.model_dump(mode="json"))
    save_model(tmp_path / "model", pack_weights(learner.network), description, validation)
    return str(tmp_path / "model")


def test_what_cannot_be_cross_validated_changes_neither_aggregation_nor_hop(
    model: str, features: str
) -> None:
    """There are too few held-out recordings for folds."""
    before = Predictor.load(model).description
    changed, candidates = search_decisions(model, ThresholdSettings(), features)
    assert all(np.isnan(candidate.cross_validated) for candidate in candidates)
    assert max(candidate.fitted for candidate in candidates) > candidates[0].fitted
    assert changed.windows == candidates[0].windows == before.windows


@pytest.mark.parametrize("held_out", ["clips", "stores", "mixtures"])
def test_clips_as_they_are_have_folds_of_their_groups_and_mixtures_their_own(
    model: str, held_out: str
) -> None:
    description = read_description(model)
    labels = (np.random.default_rng(0).random((60, 11)) < 0.5).astype(np.int8)
    songs = [f"song {clip // 2}" for clip in range(60)]
    scores = replace(read_scores(f"{model}/validation.parquet"), labels=labels, groups=songs)
    if held_out == "clips":
        validation = {**description.recipe["validation"], "mixed": False}
        description.recipe["validation"] = validation
    if held_out == "stores":
        judge = ValidationRecord(
            **description.data.model_dump(include={"manifest", "features", "store"}),
            part="testing",
            clips=60,
        )
        data = description.data.model_copy(update={"validated_on": (judge,)})
        description = description.model_copy(update={"data": data})
    folds = thresholds._folds(description, scores)
    if held_out == "mixtures":
        assert folds is None  # Mixtures of clips of any group.
        return
    assert len(np.unique(folds)) == 5
    assert (folds[::2] == folds[1::2]).all()
    few = replace(scores, groups=["one song"] * 60)
    assert thresholds._folds(description, few) is None


def test_the_best_candidate_is_chosen_and_written_to_the_model(
    model: str, features: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "folds_of", lambda groups: np.arange(len(groups)) % 3)
    before = Predictor.load(model).description
    changed, candidates = search_decisions(model, ThresholdSettings(), features)
    assert len(candidates) == len(AGGREGATION_RULES) * 2
    values = [candidate.cross_validated for candidate in candidates]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 1
    best = candidates[0]
    predictor = Predictor.load(model)
    assert predictor.description == changed
    assert predictor.description.windows == best.windows
    validation = read_scores(f"{model}/validation.parquet")
    clips = open_training_data(features, recipe).threshold_clips()
    np.testing.assert_allclose(validation.scores, predictor.score_clips(clips), atol=1e-5)
    assert changed.scores["val_macro_f1"] == pytest.approx(best.fitted)
    assert best.windows != before.windows
    overall = overall_metrics(validation.labels, validation.scores, np.full(11, 0.5, np.float32))
    for name in ("lrap", "map", "micro_recall", "label_accuracy"):
        assert changed.scores[f"val_{name}"] == pytest.approx(overall[name])


def test_an_interruption_leaves_no_scores_of_other_windows_in_silence(
    model: str, features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are written before the description says of which windows they are."""

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(thresholds, "folds_of", lambda groups: np.arange(len(groups)) % 3)
    with monkeypatch.context() as patched:
        patched.setattr(thresholds, "write_description", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search_decisions(model, ThresholdSettings(), features)
    with pytest.raises(IrmasError, match=r"holds scores of other windows than .* --features STORE"):
        search_decisions(model, ThresholdSettings())
    changed, _ = search_decisions(model, ThresholdSettings(), features)
    validation = read_scores(f"{model}/validation.parquet")
    assert validation.scored_by == scorer_identity(changed)
    again, _ = search_decisions(model, ThresholdSettings())
    assert again.thresholds == changed.thresholds


def test_without_features_only_the_thresholds_change(model: str) -> None:
    before = Predictor.load(model).description
    settings = ThresholdSettings(objective="micro_f1")
    changed, (only,) = search_decisions(model, settings)
    scores = read_scores(f"{model}/validation.parquet")
    fitted = averaged_thresholds(scores.labels, scores.scores, settings)
    np.testing.assert_array_equal(only.thresholds, fitted)
    assert changed.windows == before.windows
    assert "micro F1" in changed.thresholds_from
    # What is made of the model, such as its adaptation, goes by it, too.
    of_recipe = ThresholdSettings(evidence=1)
    assert before.threshold_settings == of_recipe
    assert Predictor.load(model).description.threshold_settings == settings
    assert search_decisions(model, of_recipe)[0] == before  # as the recipe says again


def test_each_fold_is_decided_by_thresholds_of_the_others(model: str) -> None:
    place = f"{model}/validation.parquet"
    scores = read_scores(place)
    folds = np.arange(len(scores.groups)) % 5 + 1
    groups = [f"fold {fold}: {group}" for fold, group in zip(folds, scores.groups, strict=True)]
    # Labels and noise: thresholds that are fitted to the noise do worse on other mixtures.
    values = np.random.default_rng(0).random(scores.labels.shape) * 0.8 + scores.labels * 0.2
    values = values.astype(np.float32)
    write_scores(place, replace(scores, groups=groups, scores=values))
    settings = ThresholdSettings(evidence=1)
    _, (only,) = search_decisions(model, settings)
    predicted = np.zeros_like(scores.labels)
    for fold in range(1, 6):
        others = folds != fold
        fitted = fit_thresholds(scores.labels[others], values[others], settings)
        predicted[~others] = values[~others] >= fitted
    f1 = f1_score(scores.labels, predicted, average="macro", zero_division=0)
    assert only.cross_validated == pytest.approx(f1)
    assert only.cross_validated < only.fitted


def test_a_model_without_validation_scores_is_refused_by_its_name(model: str) -> None:
    Path(model, "validation.parquet").unlink()
    with pytest.raises(IrmasError, match="has no validation scores, to which thresholds would be"):
        search_decisions(model, ThresholdSettings())


def test_features_of_another_corpus_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(IrmasError):
        search_decisions(model, ThresholdSettings(), str(tmp_path))


def test_features_with_other_labels_are_refused(model: str, relabelled: str) -> None:
    with pytest.raises(IrmasError, match=r"is not what .* was trained on .* labels, groups or"):
        search_decisions(model, ThresholdSettings(), relabelled)

"""Ray Train around the Learner: workers train one model and write its directory."""

from pathlib import Path

import numpy as np
import pytest

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import read_scores
from irmas_dist.features.clips import read_clips
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.thresholds import search_decisions
from irmas_dist.training.data import open_training_data
from irmas_dist.training.distributed import RUN_NAME
from irmas_dist.training.learner import Learner
from irmas_dist.training.model_directory import ModelDescription, read_description
from irmas_dist.training.train import train

WORKERS = WorkerSettings(count=2)


@pytest.fixture(scope="module")
def trained(
    features: str, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ModelDescription, Recipe]:
    out = tmp_path_factory.mktemp("models")
    plain = build_recipe(
        recipe.model_dump(),
        {
            # Batch statistics and dropout differ between workers; without them the sums agree.
            "model.normalisation": "none",
            "model.dropout.blocks": 0.0,
            "model.dropout.dense": 0.0,
            "tracking.directory": str(out),
        },
        "the test",
    )
    return str(out / "m"), train(plain, features, str(out / "m"), WORKERS), plain


def test_two_workers_have_the_loss_curve_of_one(
    trained: tuple[str, ModelDescription, Recipe], features: str
) -> None:
    _, description, recipe = trained
    alone = Learner(open_training_data(features, recipe), recipe)
    while not alone.finished:
        alone.run_epoch()
    for ours, theirs in zip(description.history, alone.history, strict=True):
        for name in ("train_loss", "val_loss", "val_label_accuracy", "val_map"):
            assert ours[name] == pytest.approx(theirs[name], rel=0.02), name


def test_the_model_directory_is_self_contained(
    trained: tuple[str, ModelDescription, Recipe], features: str, tree: Path
) -> None:
    path, description, recipe = trained
    assert {file.name for file in Path(path).iterdir()} == {
        "model.safetensors",
        "model.json",
        "validation.parquet",
    }
    assert not (Path(path) / RUN_NAME).exists()
    assert read_description(path) == description
    assert description.recipe == recipe.model_dump(mode="json")
    assert description.parameters > 0
    predictor = Predictor.load(path)
    clips = read_clips(features, "testing")
    stored = predictor.score_clips(clips)
    for index in (0, len(clips) - 1):
        file = next(f for f in tree.rglob("*.wav") if f.stem in _stems(clips.clip_ids[index]))
        from_file = predictor.file(file)
        np.testing.assert_allclose(list(from_file.values()), stored[index], atol=1e-4)


def _stems(clip_id: str) -> set[str]:
    import unicodedata

    name = clip_id.rsplit("/", 1)[1]
    return {unicodedata.normalize(form, name) for form in ("NFC", "NFD")}


def test_validation_scores_are_those_of_the_saved_weights(
    trained: tuple[str, ModelDescription, Recipe], features: str
) -> None:
    path, _, recipe = trained
    saved = read_scores(Path(path) / "validation.parquet")
    again = Predictor.load(path).score_clips(open_training_data(features, recipe).validation)
    np.testing.assert_allclose(saved.scores, again, atol=1e-5)


def test_a_finished_model_is_not_trained_again_and_another_recipe_is_refused(
    trained: tuple[str, ModelDescription, Recipe], features: str
) -> None:
    path, description, recipe = trained
    before = Path(path, "model.safetensors").stat().st_mtime_ns
    assert train(recipe, features, path, WORKERS) == description
    assert Path(path, "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(IrmasError, match="another recipe"):
        train(recipe.model_copy(update={"seed": 7}), features, path, WORKERS)


def test_thresholds_can_be_fitted_again_without_the_network(
    trained: tuple[str, ModelDescription, Recipe],
) -> None:
    path, description, _ = trained
    changed, _ = search_decisions(path, ThresholdSettings(rule="global"))
    assert len(set(changed.thresholds.values())) == 1
    again, _ = search_decisions(path, ThresholdSettings())
    assert again.thresholds == description.thresholds


def test_workers_beyond_the_capacity_are_waited_for_and_then_refused(
    features: str, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disabled = build_recipe(recipe.model_dump(), {"tracking.mode": "disabled"}, "the test")
    many = WorkerSettings(count=64, wait_timeout_s=3)
    with pytest.raises(IrmasError, match=r"64 workers need 64 CPUs, and after 3 s the cluster has"):
        train(disabled, features, str(tmp_path / "m"), many)
    assert "waiting up to 3 s for resources: 64 workers need 64 CPUs" in capsys.readouterr().err


def test_an_unfinished_training_is_not_resumed_with_another_recipe(
    features: str, recipe: Recipe, tmp_path: Path
) -> None:
    disabled = build_recipe(recipe.model_dump(), {"tracking.mode": "disabled"}, "the test")
    out = str(tmp_path / "m")
    with pytest.raises(IrmasError, match="64 workers"):  # after it has begun
        train(disabled, features, out, WorkerSettings(count=64, wait_timeout_s=0))
    with pytest.raises(IrmasError, match="unfinished training of another recipe"):
        train(disabled.model_copy(update={"seed": 7}), features, out, WORKERS)


def test_features_of_other_settings_are_refused(
    features: str, recipe: Recipe, tmp_path: Path
) -> None:
    other = build_recipe(recipe.model_dump(), {"features.bands": 40}, "the test")
    with pytest.raises(IrmasError, match="other feature settings"):
        train(other, features, str(tmp_path / "m"), WORKERS)


def test_damaged_models_are_refused_by_name(
    trained: tuple[str, ModelDescription, Recipe], tmp_path: Path
) -> None:
    path, _, _ = trained
    with pytest.raises(IrmasError, match=r"has no model\.json"):
        Predictor.load(tmp_path)
    for name, content, message in (
        ("model.safetensors", b"\x00" * 64, r"model\.safetensors is damaged"),
        ("model.json", b'{"format": 99}', r"model\.json cannot be used: format"),
        ("model.json", b"{", r"model\.json is not JSON"),
    ):
        damaged = tmp_path / f"{name}-{len(content)}"
        damaged.mkdir()
        for file in Path(path).iterdir():
            (damaged / file.name).write_bytes(file.read_bytes())
        (damaged / name).write_bytes(content)
        with pytest.raises(IrmasError, match=message):
            Predictor.load(damaged)

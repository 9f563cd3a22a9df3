"""The stage: a model directory is written once, for one recipe."""

from pathlib import Path

import pytest

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.storage.locks import lock_directory
from irmas_dist.training.model_directory import ModelDescription
from irmas_dist.training.train import train
from tests.training.conftest import WORKERS


def test_a_finished_model_is_not_trained_again_and_another_recipe_is_refused(
    trained: tuple[str, ModelDescription, Recipe], features: str
) -> None:
    path, description, recipe = trained
    before = Path(path, "model.safetensors").stat().st_mtime_ns
    assert train(recipe, features, path, WORKERS) == description
    assert Path(path, "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(IrmasError, match="another recipe"):
        train(recipe.model_copy(update={"seed": 7}), features, path, WORKERS)


def test_a_finished_model_is_not_the_answer_for_other_labels(
    trained: tuple[str, ModelDescription, Recipe], relabelled: str
) -> None:
    path, _, recipe = trained
    with pytest.raises(IrmasError, match=r"holds a model of other features \(\w+, not \w+\)"):
        train(recipe, relabelled, path, WORKERS)


def test_an_unfinished_training_is_not_resumed_with_another_recipe_or_other_labels(
    features: str, relabelled: str, recipe: Recipe, tmp_path: Path
) -> None:
    disabled = build_recipe(recipe.model_dump(), {"tracking.mode": "disabled"}, "the test")
    out = str(tmp_path / "m")
    with pytest.raises(IrmasError, match="64 workers"):  # after it has begun
        train(disabled, features, out, WorkerSettings(count=64, wait_timeout_s=0))
    with pytest.raises(IrmasError, match="unfinished training of another recipe"):
        train(disabled.model_copy(update={"seed": 7}), features, out, WORKERS)
    with pytest.raises(IrmasError, match="unfinished training of other features"):
        train(disabled, relabelled, out, WORKERS)


@pytest.mark.usefixtures("no_ray")
def test_what_cannot_be_trained_is_refused_before_ray_starts(
    trained: tuple[str, ModelDescription, Recipe], features: str, tmp_path: Path
) -> None:
    path, description, recipe = trained
    assert train(recipe, features, path, WORKERS) == description
    with pytest.raises(IrmasError, match="holds a model of another recipe"):
        train(recipe.model_copy(update={"seed": 7}), features, path, WORKERS)
    new = str(tmp_path / "new")
    other = build_recipe(recipe.model_dump(), {"features.bands": 40}, "the test")
    with pytest.raises(IrmasError, match="made with other feature settings"):
        train(other, features, new, WORKERS)
    with lock_directory(new), pytest.raises(IrmasError, match="new is in use by process"):
        train(recipe, features, new, WORKERS)
    (tmp_path / "file").touch()
    with pytest.raises(IrmasError, match="file is a file: name a directory"):
        train(recipe, features, str(tmp_path / "file"), WORKERS)
    with pytest.raises(IrmasError, match="cannot be written"):
        train(recipe, features, "/proc/model", WORKERS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

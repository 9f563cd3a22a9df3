"""The model directory: self-contained, verified, and with the versions that made it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import irmas_dist
from irmas_dist.config.recipe import Recipe
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import read_clips
from irmas_dist.inference.predictor import Predictor
from irmas_dist.training.loop import RUN_NAME
from irmas_dist.training.model_directory import ModelDescription, commit, read_description, versions


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one file, made to look like the one that is imported."""
    package = tmp_path / "checkout" / "irmas_dist"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(irmas_dist, "__file__", str(package / "__init__.py"))
    return package


def test_the_commit_of_a_checkout_and_whether_files_differ_from_it(
    package: Path,
) -> None:
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "first")
    head = git(package.parent, "rev-parse", "HEAD")
    assert len(head) == 40
    assert commit() == head
    (package / "__init__.py").write_text("changed = True\n")
    assert commit() == f"{head}-dirty"


def test_an_installed_package_has_no_commit_even_inside_another_checkout(package: Path) -> None:
    git(package.parents[1], "init", "-q")
    git(package.parents[1], "commit", "-q", "--allow-empty", "-m", "of something else")
    assert commit() is None


def test_without_git_there_is_no_commit(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(package.parent, "init", "-q")
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_a_package_that_is_not_installed_has_an_unknown_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert set(versions().values()) == {"unknown"}


def test_versions_name_what_may_change_a_result() -> None:
    assert {"torch", "numpy", "soxr"} <= versions().keys()


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


def test_a_loss_that_is_not_finite_does_not_keep_a_model_from_being_described(
    trained: tuple[str, ModelDescription, Recipe],
) -> None:
    _, description, _ = trained
    history = [*description.history[:-1], description.history[-1] | {"train_loss": np.inf}]
    content = description.model_dump() | {"history": history}
    assert ModelDescription.model_validate(content).history == history

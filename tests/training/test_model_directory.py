"""The model directory: self-contained, verified, and with the versions that made it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.config.recipe import Recipe
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import read_clips
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.thresholds import search_decisions
from irmas_dist.storage.results import PROGRESS
from irmas_dist.training.model_description import (
    ModelDescription,
    read_description,
    write_description,
)
from irmas_dist.training.model_directory import (
    build_network,
    load_network,
    pack_weights,
    save_model,
)
from tests.records import DATA


def test_the_model_directory_is_self_contained(
    trained: tuple[str, ModelDescription, Recipe], features: str, tree: Path
) -> None:
    path, description, recipe = trained
    assert {file.name for file in Path(path).iterdir()} == {
        "model.safetensors",
        "model.json",
        "validation.parquet",
        "known.parquet",
    }
    assert not (Path(path) / PROGRESS).exists()
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


def test_weights_of_another_architecture_are_refused_with_what_differs(
    trained: tuple[str, ModelDescription, Recipe],
) -> None:
    path, description, _ = trained
    weights = (Path(path) / "model.safetensors").read_bytes()
    model = description.parts[0].model.model_copy(update={"normalisation": "batch"})
    other = description.model_copy(update={"model": model})
    with pytest.raises(IrmasError, match=r"another architecture.*key.*layers.*train it again"):
        build_network(other, weights, "here")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("thresholds", {}, "thresholds: cel is in one of instruments and thresholds only"),
        ("thresholds", {"zzz": 0.5}, "thresholds: zzz is in one of"),
        ("thresholds", {"pia": -1}, "thresholds: that of pia should be from 0 to 1"),
        ("instruments", {"zzz": "z"}, "thresholds: zzz is in one of"),
        ("normalisation", {"mean": [0.0] * 5}, "normalisation: should have the mean and the"),
        ("normalisation", {"std": [0.0] * 64}, "normalisation.std.0: should be greater than 0"),
        ("windows", {"hop_frames": 0}, "windows.hop_frames: should be greater than or equal to 1"),
        ("history", [{}], "history: should have the epoch of each row"),
        ("adapted", {"clips": 1}, "adapted.to: field required"),
        ("data", {"validated_on": 5}, "data.validated_on: should be a list"),
    ],
)
def test_a_description_whose_parts_do_not_fit_is_refused(
    trained: tuple[str, ModelDescription, Recipe],
    tmp_path: Path,
    field: str,
    value: Any,
    problem: str,
) -> None:
    content = json.loads(Path(trained[0], "model.json").read_text())
    if isinstance(content[field], dict) and value:
        value = content[field] | value
    (tmp_path / "model.json").write_text(json.dumps(content | {field: value}))
    with pytest.raises(IrmasError, match=r"model\.json cannot be used: ") as refused:
        read_description(tmp_path)
    assert problem in str(refused.value)


def test_a_damaged_recipe_and_other_data_are_one_line(
    trained: tuple[str, ModelDescription, Recipe], features: str, tmp_path: Path
) -> None:
    path, description, _ = trained
    with pytest.raises(IrmasError, match=r"^the model's recipe: corpus"):
        _ = description.model_copy(update={"recipe": {"corpus": []}}).corpus
    shutil.copytree(path, tmp_path / "model")
    write_description(tmp_path / "model", description.model_copy(update={"data": DATA}))
    with pytest.raises(IrmasError, match=rf"is not what .* was trained on \({DATA.store}\)"):
        search_decisions(str(tmp_path / "model"), ThresholdSettings(), features)


def test_weights_beside_the_description_of_others_are_refused(
    trained: tuple[str, ModelDescription, Recipe], tmp_path: Path
) -> None:
    """As where an adaptation that replaces another is killed between the two files."""
    path, description, _ = trained
    others = tmp_path / "others"
    network = load_network(path, description)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1)
    save_model(others, pack_weights(network), description, None)
    (others / "model.json").write_bytes(Path(path, "model.json").read_bytes())
    with pytest.raises(IrmasError, match=r"not of the model that model\.json beside it describes"):
        Predictor.load(others)


def test_a_loss_that_is_not_finite_does_not_keep_a_model_from_being_described(
    trained: tuple[str, ModelDescription, Recipe],
) -> None:
    _, description, _ = trained
    history = [*description.history[:-1], description.history[-1] | {"train_loss": np.inf}]
    content = description.model_dump() | {"history": history}
    assert ModelDescription.model_validate(content).history == history

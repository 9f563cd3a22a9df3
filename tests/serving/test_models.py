"""A version of a model: what names it, and what is told of it."""

import dataclasses
import json
from pathlib import Path

import pytest

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.serving.models import ServedModel, read_models
from irmas_dist.training.records import AdaptationRecord
from tests.inference.conftest import MakeModel


def test_what_clients_are_told_of_a_model_is_json(model: Path) -> None:
    served, _ = ServedModel.read("a", model)
    assert json.loads(json.dumps(served.facts(), allow_nan=False))["digest"] == served.digest


def test_an_adapted_model_has_no_figures_of_what_it_was_before(model: Path) -> None:
    served, _ = ServedModel.read("a", model)
    assert served.facts()["validation"]
    assert served.facts()["adapted_to"] is None
    adapted = served.description.model_copy(update={"adapted": AdaptationRecord(to="songs")})
    facts = dataclasses.replace(served, description=adapted).facts()
    assert (facts["validation"], facts["adapted_to"]) == ({}, "songs")


def test_silence_reaches_no_threshold_that_clients_are_told(model: Path) -> None:
    served, _ = ServedModel.read("a", model)
    always = served.description.model_copy(
        update={"thresholds": {**served.description.thresholds, "voi": 0.0}}
    )
    thresholds = dataclasses.replace(served, description=always).facts()["thresholds"]
    assert 0 < thresholds["voi"] < 1e-30
    assert thresholds["cel"] == 0.5


def test_other_weights_or_thresholds_are_another_version(make_model: MakeModel) -> None:
    path = make_model()
    first = ServedModel.read("a", path)[0].digest
    text = (path / "model.json").read_text()
    (path / "model.json").write_text(text.replace("0.5", "0.25"))
    assert ServedModel.read("a", path)[0].digest != first
    with pytest.raises(IrmasError, match="has changed since it was deployed"):
        ServedModel.read("a", path, first)
    (path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(IrmasError, match="damaged"):
        read_models({"a": str(path)})


def test_a_model_is_read_from_an_object_store(model: Path, bucket: str) -> None:
    directory = f"{bucket}/models/a"
    for file in model.iterdir():
        with storage.write_atomically(f"{directory}/{file.name}") as stream:
            stream.write(file.read_bytes())
    read, weights = ServedModel.read("a", directory)
    assert read.directory == directory
    here, same = ServedModel.read("a", model)
    assert (read.digest, weights) == (here.digest, same)
    with pytest.raises(IrmasError, match="models/b"):
        ServedModel.read("b", f"{bucket}/models/b")

"""Training data: the store is split alike, whether its clips are resident or streamed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irmas_dist.cluster import without_ray
from irmas_dist.config.corpus import ValidationSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import IngestSettings
from irmas_dist.errors import IrmasError
from irmas_dist.features import store
from irmas_dist.features.clips import StreamedClips
from irmas_dist.instruments import UNKNOWN, Vocabulary
from irmas_dist.training.describe import describe
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import load_training_data, open_training_data
from tests.training.conftest import load


def test_resident_and_streamed_stores_are_split_alike(features: str, recipe: Recipe) -> None:
    resident, streamed = (load(features, recipe, mode) for mode in ("resident", "streaming"))
    assert isinstance(streamed.training, StreamedClips)
    (store,) = streamed.training.stores
    assert store.clip_ids == set(resident.training.clip_ids)
    np.testing.assert_array_equal(streamed.validation.frames, resident.validation.frames)
    np.testing.assert_array_equal(streamed.validation.labels, resident.validation.labels)


def test_clips_are_resident_by_default_when_they_fit_in_memory(
    features: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not isinstance(load(features, recipe, "auto").training, StreamedClips)
    monkeypatch.setattr(without_ray, "RESIDENT_SHARE", 1e-9)
    assert isinstance(load(features, recipe, "auto").training, StreamedClips)
    assert not isinstance(load(features, recipe, "resident").training, StreamedClips)


def test_features_of_other_settings_are_refused(features: str, recipe: Recipe) -> None:
    other = build_recipe(recipe.model_dump(), {"features.bands": 40}, "the test")
    with pytest.raises(
        IrmasError, match=r"other settings than this recipe has: bands=\d+ rather than 40"
    ):
        open_training_data(features, other)


@pytest.fixture(scope="module")
def with_validation(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of 24 training and 4 validation clips, of two instruments each."""
    return write_store(str(tmp_path_factory.mktemp("store")))


def write_store(place: str, **validation: Any) -> str:
    """Write such a store, with other values of the validation clips; return its place."""
    settings, vocabulary = LogMelSettings(bands=8), Vocabulary.of({"a": "A", "b": "B", "c": "C"})
    rng = np.random.default_rng(0)
    rows = [
        {
            "clip_id": f"{index:02d}", "md5": str(index), "group": f"group {index}",
            "part": "training" if index < 24 else "validation",
            "labels": np.roll([1, 1, 0], index).tolist(),
            "logmel": rng.normal(-9, 1, (8, 40 + index)).astype(np.float16),
        } | (validation if index >= 24 else {})
        for index in range(28)
    ]  # fmt: skip
    fingerprint = store.settings_fingerprint(settings, vocabulary)
    store.write_shard(place, rows, fingerprint)
    shards = store.read_shards(place, store.shard_names(place))
    store.write_info(place, shards, settings, vocabulary, "")
    return place


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_validation_clips_of_its_own_take_the_place_of_held_out_ones(
    with_validation: str, mode: str
) -> None:
    ingest = IngestSettings.model_validate({"mode": mode})
    as_they_are = ValidationSettings(mixed=False)
    data = load_training_data(with_validation, as_they_are, ingest)
    assert len(data.training) == 24
    assert data.validation.clip_ids == ["24", "25", "26", "27"]
    frames = data.validation.frames
    whole = load_training_data(with_validation, as_they_are, IngestSettings(mode="resident"))
    np.testing.assert_array_equal(frames, whole.validation.frames)
    mixed = load_training_data(with_validation, ValidationSettings(mixtures=9), ingest)
    assert len(mixed.validation) == 9
    assert len(mixed.training) == 24


@pytest.mark.parametrize("mode", ["resident", "streaming"])
@pytest.mark.parametrize("same", [{"group": "group 3"}, {"md5": "3"}])
def test_what_is_validated_on_is_not_learnt(
    same: dict[str, str], mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest = IngestSettings.model_validate({"mode": mode})
    place = write_store(str(tmp_path / "store"), **same)
    data = load_training_data(place, ValidationSettings(mixed=False), ingest)
    assert len(data.training) == 23
    assert "1 of 24 training clips of" in capsys.readouterr().err


def test_no_source_is_held_out_beside_validation_clips(with_validation: str) -> None:
    with pytest.raises(IrmasError, match=r"has validation clips of its own, so that"):
        load_training_data(with_validation, ValidationSettings(by="source"), IngestSettings())


@pytest.mark.parametrize(("group", "is_said"), [("group 3", True), ("another", False)])
def test_groups_of_training_that_are_tested_on_are_told_of(
    group: str, is_said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_store(str(tmp_path / "store"), part="testing", group=group)
    load_training_data(place, ValidationSettings(mixed=False), IngestSettings())
    told = " ".join(capsys.readouterr().err.split())
    assert ("1 training clips of" in told and "share a group with testing clips" in told) == is_said


def test_validation_clips_must_have_instruments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = write_store(str(tmp_path / "none"), labels=[UNKNOWN, 0, 0])
    with pytest.raises(IrmasError, match=r"of no validation clip of .* epochs cannot be compared"):
        load_training_data(none, ValidationSettings(), IngestSettings())
    some = write_store(str(tmp_path / "some"), labels=[1, UNKNOWN, 0])
    load_training_data(some, ValidationSettings(mixed=False), IngestSettings())
    assert "is known to have b, c: the model will not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "said"), [({"labels": [1, UNKNOWN, UNKNOWN]}, True), ({}, False)]
)
def test_validation_clips_of_which_no_absence_is_known_are_told_of(
    labels: dict[str, Any], said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the scores, figures of these are perfect."""
    place = write_store(str(tmp_path / "store"), **labels)
    load_training_data(place, ValidationSettings(mixed=False), IngestSettings())
    told = " ".join(capsys.readouterr().err.split())
    assert ("is known to be without a: figures of these are perfect" in told) == said


def test_thresholds_are_fitted_to_the_same_clips_resident_and_streaming(
    features: str, recipe: Recipe
) -> None:
    resident, streaming = (
        load_training_data(
            features, recipe.validation, IngestSettings.model_validate({"mode": mode})
        )
        for mode in ("resident", "streaming")
    )
    clips = resident.threshold_clips()
    assert len(clips) == recipe.validation.threshold_mixtures != recipe.validation.mixtures
    np.testing.assert_array_equal(clips.frames, streaming.threshold_clips().frames)
    as_they_are = recipe.validation.model_copy(update={"mixed": False})
    data = load_training_data(features, as_they_are, IngestSettings())
    assert data.threshold_clips() is data.validation


@pytest.mark.parametrize("mode", ["resident", "streaming"])
def test_held_out_clips_may_stay_as_they_are(features: str, recipe: Recipe, mode: str) -> None:
    settings = recipe.validation.model_copy(update={"mixed": False})
    data = load_training_data(features, settings, IngestSettings.model_validate({"mode": mode}))
    mixed = load_training_data(features, recipe.validation, IngestSettings(mode="resident"))
    assert len(data.training) == len(mixed.training)
    assert (data.validation.labels.sum(axis=1) == 1).all()
    lengths, frames = data.validation.lengths, data.validation.frames
    assert len(frames) >= lengths.sum() > 0


@pytest.mark.parametrize("mixed", [False, True])
def test_a_model_says_whether_it_was_validated_on_clips_or_mixtures(
    features: str, recipe: Recipe, mixed: bool
) -> None:
    validation = recipe.validation.model_copy(update={"mixed": mixed})
    changed = recipe.model_copy(update={"validation": validation})
    learner = Learner(load_training_data(features, validation, IngestSettings()), changed)
    learner.run_epoch()
    description, _ = describe(learner, changed.model_dump(mode="json"))
    assert (description.data.validation_mixtures > 0) is mixed
    assert (description.data.validation_clips > 0) is not mixed

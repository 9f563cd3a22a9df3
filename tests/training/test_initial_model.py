"""Training starts from a model: its weights, its normalisation, and what is kept of it at first."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import FurtherStore, WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.features.store import read_info
from irmas_dist.instruments import Vocabulary
from irmas_dist.models.cnn import parameter_count
from irmas_dist.training.data import TrainingData
from irmas_dist.training.initial_model import InitialModel
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import open_training_data
from irmas_dist.training.model_description import read_description, write_description
from irmas_dist.training.model_directory import read_initial_model
from irmas_dist.training.records import AdaptationRecord, StartRecord
from irmas_dist.training.train import train
from tests.training.conftest import VOCABULARY, synthetic_clips, write_store

pytestmark = pytest.mark.usefixtures("one_thread")

BATCH_NORM = {"model.normalisation": "batch", "training.epochs": 1}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_store(tmp_path_factory.mktemp("store"), synthetic_clips(48, seed=0), "store")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of louder clips, whose normalisation differs."""
    clips = synthetic_clips(48, seed=5)
    louder = replace(clips, frames=clips.frames + clips.frames.dtype.type(2))
    return write_store(tmp_path_factory.mktemp("other"), louder, "other")


def recipe_of(settings: Recipe, **values: Any) -> Recipe:
    return build_recipe(settings.model_dump(), BATCH_NORM | values, "the test")


@pytest.fixture
def model(store: str, settings: Recipe, tmp_path: Path) -> str:
    """A model of one epoch."""
    out = str(tmp_path / "initial")
    train(recipe_of(settings), store, out, WorkerSettings())
    return out


def starting(data: TrainingData, start: InitialModel, recipe: Recipe) -> Learner:
    return Learner(replace(data, start=start), recipe)


def test_the_first_epoch_begins_with_the_weights_and_the_normalisation_of_the_model(
    model: str, other: str, settings: Recipe
) -> None:
    data, start = open_training_data(other, settings), read_initial_model(model)
    learner = starting(data, start, recipe_of(settings, **{"training.ema": 0.5}))
    for name, value in start.network.state_dict().items():
        assert torch.equal(learner.network.state_dict()[name], value), name
    description = read_description(model)
    mean = learner._standardise.mean.flatten()
    torch.testing.assert_close(mean, torch.tensor(description.normalisation.mean))
    assert learner.data.normalisation[1] == list(description.normalisation.std)
    assert not torch.allclose(mean, torch.tensor(data.store.mean))


def test_a_model_says_what_it_started_from_and_only_the_same_start_resumes_it(
    model: str, store: str, other: str, settings: Recipe, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out, workers, recipe = str(tmp_path / "m"), WorkerSettings(), recipe_of(settings)
    trained = train(recipe, other, out, workers, init=model)
    said = " ".join(capsys.readouterr().err.split())
    assert f"starting from 6 of 6 layers and the normalisation of {model}" in said
    start = read_initial_model(model)
    assert trained.data.init == StartRecord(weights=start.digest, data=start.data)
    assert trained.data.init.data.store == read_info(store).identity
    assert trained.normalisation == read_description(model).normalisation
    assert trained.data.store == read_info(other).identity
    assert train(recipe, other, out, workers, init=model) == trained
    for init in (None, out):
        with pytest.raises(IrmasError, match="a model that starts from another model, or from non"):
            train(recipe, other, out, workers, init=init)


def test_a_start_from_an_adapted_model_is_said_and_recorded(
    model: str, other: str, settings: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = AdaptationRecord(to="songs", clips=80)
    write_description(model, read_description(model).model_copy(update={"adapted": record}))
    trained = train(recipe_of(settings), other, str(tmp_path / "m"), WorkerSettings(), init=model)
    said = " ".join(capsys.readouterr().err.split())
    assert f"the normalisation of {model}, which is adapted to songs" in said
    assert trained.data.init is not None
    assert trained.data.init.adapted_to == "songs"
    assert trained.adapted is None


def test_clips_that_the_model_has_learnt_are_not_held_out_in_silence(
    model: str, store: str, other: str, settings: Recipe, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    start = read_initial_model(model)

    def said(place: str, start: InitialModel, **values: Any) -> bool:
        data = open_training_data(place, recipe_of(settings, **values), start=start)
        count = len(start.known.learnt & data.known.validated)
        told = f"{start.name} has learnt {count} of {len(data.known.validated)} files of {place}"
        return told in " ".join(capsys.readouterr().err.split())

    assert not said(store, start)  # The same clips are held out.
    assert not said(other, start)
    assert said(store, start, **{"validation.seed": 5})
    assert not said(other, start, **{"validation.seed": 5})
    both = str(tmp_path / "both")
    further = [FurtherStore(location=store)]
    train(recipe_of(settings), other, both, WorkerSettings(), further=further)
    assert said(store, read_initial_model(both))
    assert not said(other, read_initial_model(both))
    last = str(tmp_path / "last")
    train(recipe_of(settings), other, last, WorkerSettings(), init=both)
    assert said(store, read_initial_model(last))
    # Other clips beside them, or other labels, make it another store.
    clips = synthetic_clips(48, seed=0)
    fewer = write_store(tmp_path / "fewer", clips.select(list(range(40))), "renamed", audio="store")
    assert said(fewer, start)
    # Three after each other: the first has held out others, or the same.
    for seed, is_said in ((5, True), (0, False)):
        first, second = str(tmp_path / f"first-{seed}"), str(tmp_path / f"second-{seed}")
        train(recipe_of(settings, **{"validation.seed": seed}), store, first, WorkerSettings())
        train(recipe_of(settings), store, second, WorkerSettings(), init=first)
        capsys.readouterr()
        assert said(store, read_initial_model(second)) == is_said


def test_clips_that_the_model_has_learnt_are_not_judged_by_in_silence(
    model: str, store: str, other: str, settings: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    start = read_initial_model(model)
    for first, judge, is_said in ((other, store, True), (store, other, False)):
        open_training_data(first, recipe_of(settings), start=start, validate_on=[judge])
        count = len(start.known.learnt)
        told = f"{model} has learnt {count} of 48 files of {judge} that are validated"
        assert (told in " ".join(capsys.readouterr().err.split())) == is_said


def test_another_vocabulary_has_a_new_head(
    model: str, settings: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = Vocabulary.of({"top": "high noise", "sax": "saxophone", "mid": "middle noise"})
    place = write_store(tmp_path / "s", synthetic_clips(48, seed=2), "new", wanted)
    instruments = dict(zip(wanted.codes, wanted.names, strict=True))
    recipe = recipe_of(settings, **{"corpus.instruments": instruments})
    trained = train(recipe, place, str(tmp_path / "m"), WorkerSettings(), init=model)
    assert trained.vocabulary == wanted
    said = " ".join(capsys.readouterr().err.split())
    assert "starting from 6 of 6 layers" in said
    assert said.count("; new: output of sax") == 1


@pytest.mark.usefixtures("no_ray")
def test_what_cannot_be_started_from_is_refused_by_name(
    model: str, store: str, settings: Recipe, tmp_path: Path
) -> None:
    def refuse(why: str, init: str | None = model, place: str = store, **values: Any) -> None:
        with pytest.raises(IrmasError, match=why):
            train(recipe_of(settings, **values), place, "never", WorkerSettings(), init=init)

    features = settings.features.model_copy(update={"hop_length": 256})
    clips = synthetic_clips(48, seed=0)
    place = write_store(tmp_path / "s", clips, "s", VOCABULARY, features)
    refuse("settings than this recipe has: hop_length=512 rather than 256; extract",
           place=place, **{"features.hop_length": 256})  # fmt: skip
    refuse(r"none of its layers fits this recipe: width=8 rather than 5, dense=16 rather than 7",
           **{"model.width": 5, "model.dense": 7})  # fmt: skip
    refuse("none is not a model directory", str(tmp_path / "none"))
    freeze = {"training.freeze": {"blocks": 2, "epochs": 1}}
    refuse("training.freeze keeps weights of a model to start from: give --init", None, **freeze)
    refuse(r"freeze.blocks=2 keeps weights that --init .* does not have: block 2 Conv2d 1, block 2",
           **freeze | {"model.channels": [8, 9]})  # fmt: skip
    assert not Path("never").exists()


@pytest.mark.parametrize("blocks", [1, 2])
def test_frozen_blocks_stay_as_they_are_for_as_many_epochs(
    model: str, data: TrainingData, settings: Recipe, blocks: int
) -> None:
    recipe = recipe_of(settings, **{
        "training.freeze": {"blocks": blocks, "epochs": 2}, "training.epochs": 3,
        "training.optimizer": "adamw", "training.weight_decay": 0.1,
    })  # fmt: skip
    start = read_initial_model(model)
    learner = starting(data, start, recipe)
    parameters = parameter_count(learner.network)

    def changed() -> list[bool]:
        return [
            any(
                not torch.equal(ours, theirs)
                for (name, ours), theirs in zip(
                    mine.state_dict().items(), part.state_dict().values(), strict=True
                )
                if "num_batches" not in name
            )
            for mine, part in zip(learner.network.parts(), start.network.parts(), strict=True)
        ]

    for epoch in range(3):
        learner.run_epoch()
        frozen = blocks if epoch < 2 else 0
        assert changed() == [False] * frozen + [True] * (3 - frozen)
        assert parameter_count(learner.network) == parameters


def test_a_training_that_was_interrupted_while_blocks_were_frozen_is_resumed_alike(
    model: str, data: TrainingData, settings: Recipe
) -> None:
    recipe = recipe_of(settings, **{
        "training.freeze": {"blocks": 1, "epochs": 2}, "training.epochs": 3,
        "training.head_lr": 1e-2,
    })  # fmt: skip
    start = read_initial_model(model)
    whole = starting(data, start, recipe)
    for _ in range(3):
        whole.run_epoch()
    first = starting(data, start, recipe)
    first.run_epoch()
    again = starting(data, start, recipe)
    again.load_state_dict(first.state_dict())
    for _ in range(2):
        again.run_epoch()
    assert again.history == whole.history
    for ours, theirs in zip(again.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)

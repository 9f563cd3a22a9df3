"""Several models become one: scores and thresholds are means of their calibrated ones."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.platt import fit_platt
from irmas_dist.evaluation.scores import read_scores
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.thresholds import search_decisions
from irmas_dist.training.ensemble import join_models, train_seeds
from irmas_dist.training.known_audio import read_known
from irmas_dist.training.load import open_training_data
from irmas_dist.training.model_description import read_description, write_description
from irmas_dist.training.model_directory import read_initial_model
from irmas_dist.training.records import AdaptationRecord
from irmas_dist.training.train import train
from tests.training.conftest import synthetic_clips, write_store

WORKERS = WorkerSettings(gpu=False)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_store(tmp_path_factory.mktemp("store"), synthetic_clips(48, seed=0), "store")


@pytest.fixture
def short(settings: Recipe) -> Recipe:
    return build_recipe(settings.model_dump(), {"training.epochs": 1}, "the test")


@pytest.fixture
def model(store: str, short: Recipe, tmp_path: Path) -> Any:
    """Trains a model of some values."""

    def make(name: str, **values: Any) -> str:
        recipe = build_recipe(short.model_dump(), values, "the test")
        train(recipe, store, str(tmp_path / name), WORKERS)
        return str(tmp_path / name)

    return make


def test_more_seeds_are_added_to_an_ensemble(store: str, short: Recipe, tmp_path: Path) -> None:
    out = str(tmp_path / "all")
    two = train_seeds(short, 2, store, out, WORKERS)
    kept = (tmp_path / "all" / "seed-1" / "model.safetensors").stat().st_mtime_ns
    three = train_seeds(short, 3, store, out, WORKERS)
    assert [one.recipe["seed"] for one in three.members] == [0, 1, 2]
    assert len(read_known(out).learnt) == three.members[0].data.training_clips
    assert three.members[:2] == two.members
    assert (tmp_path / "all" / "seed-1" / "model.safetensors").stat().st_mtime_ns == kept
    assert read_description(out) == three


def test_the_models_of_an_ensemble_are_found_after_it_is_renamed(
    store: str, short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = train_seeds(short, 2, store, str(tmp_path / "all"), WORKERS)
    shutil.move(tmp_path / "all", tmp_path / "renamed")
    monkeypatch.chdir(tmp_path / "renamed")
    assert train_seeds(short, 2, store, ".", WORKERS) == made
    directories = {path.name for path in tmp_path.glob("renamed/*") if path.is_dir()}
    assert directories == {"seed-0", "seed-1"}


@pytest.mark.drill
def test_several_seeds_are_trained_and_joined(store: str, short: Recipe, tmp_path: Path) -> None:
    out = str(tmp_path / "all")
    made = train_seeds(short, 3, store, out, WORKERS)
    assert [one.recipe["seed"] for one in made.members] == [0, 1, 2]
    singles = [str(tmp_path / "all" / f"seed-{seed}") for seed in range(3)]
    calibrated, thresholds = [], []
    for name, member in zip(singles, made.members, strict=True):
        own = read_scores(Path(name) / "validation.parquet")
        platt = fit_platt(own.labels, own.scores)
        assert member.calibration is not None
        assert dict(member.calibration) == platt._asdict()
        calibrated.append(platt(own.scores))
        thresholds.append(platt(read_description(name).threshold_array()))
    joint = read_scores(Path(out) / "validation.parquet")
    np.testing.assert_allclose(joint.scores, np.mean(calibrated, axis=0), atol=1e-6)
    np.testing.assert_allclose(
        list(made.thresholds.values()), np.mean(thresholds, axis=0), atol=1e-6
    )
    assert made.thresholds_from == "means of the calibrated thresholds of 3 models"
    assert made.parameters == 3 * read_description(singles[0]).parameters
    # The network gives these scores again, from the clips.
    clips = open_training_data(store, short).threshold_clips()
    np.testing.assert_allclose(Predictor.load(out).score_clips(clips), joint.scores, atol=1e-5)
    weights = (Path(out) / "model.safetensors").stat().st_mtime_ns
    assert train_seeds(short, 3, store, out, WORKERS) == made
    assert (Path(out) / "model.safetensors").stat().st_mtime_ns == weights
    with pytest.raises(IrmasError, match="of the seeds 0, 1, 2, not one of 0 to 1"):
        train_seeds(short, 2, store, out, WORKERS)
    with pytest.raises(IrmasError, match="seed-0 holds a model of another recipe"):
        train_seeds(short.model_copy(update={"seed": 0, "window": short.window.model_copy(
            update={"seconds": 0.7})}), 3, store, out, WORKERS)  # fmt: skip
    with pytest.raises(IrmasError, match="all holds an ensemble"):
        train(short, store, out, WORKERS)
    with pytest.raises(IrmasError, match="seed-0 holds a single model, not one of 0 to 1"):
        train_seeds(short, 2, store, singles[0], WORKERS)
    with pytest.raises(IrmasError, match="is an ensemble: start from one of its members"):
        read_initial_model(out)
    shutil.rmtree(singles[1])
    with pytest.raises(IrmasError, match=r"of models of which .*seed-1 is gone"):
        train_seeds(short, 3, store, out, WORKERS)
    with pytest.raises(IrmasError, match="holds a feature store: name another directory"):
        train_seeds(short, 3, store, store, WORKERS)


@pytest.mark.drill
def test_thresholds_of_an_ensemble_are_fitted_again(model: Any, tmp_path: Path) -> None:
    out = str(tmp_path / "both")
    made = join_models([model("a"), model("b", **{"model.width": 4, "seed": 5})], out)
    rule = made.recipe["thresholds"] | {"rule": "global"}
    changed, _ = search_decisions(out, Recipe.model_validate({"thresholds": rule}).thresholds)
    assert len(set(changed.thresholds.values())) == 1
    assert changed.members == made.members
    with pytest.raises(IrmasError, match="leave --features out"):
        search_decisions(out, Recipe().thresholds, "features")


def test_what_a_member_is_adapted_never_to_predict_the_ensemble_does_not(
    model: Any, tmp_path: Path
) -> None:
    one, other = model("one"), model("other", seed=1)
    description = read_description(one)
    absent, plays = list(description.instruments)[:2]
    adapted = AdaptationRecord(to="songs", prevalence={absent: 0.0, plays: 0.5})
    decided = dict.fromkeys(description.instruments, 0.5)
    thresholds = decided | {absent: float(NEVER)}
    changed = description.model_copy(update={"adapted": adapted, "thresholds": thresholds})
    write_description(one, changed)
    plain = read_description(other).model_copy(update={"thresholds": decided})
    write_description(other, plain)
    join_models([one, other], str(tmp_path / "joint"))
    joint = dict(read_description(tmp_path / "joint").thresholds)
    assert joint[absent] == float(NEVER)
    assert joint[plays] < 1
    assert read_description(tmp_path / "joint").known_absent == {0}


def test_a_later_seed_of_another_recipe_is_refused_before_the_first_is_trained(
    store: str, short: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "all"
    other = build_recipe(short.model_dump(), {"seed": 1, "training.lr": 0.002}, "the test")
    train(other, store, str(out / "seed-1"), WORKERS)
    with pytest.raises(IrmasError, match=r"another recipe: training\.lr.*; --init starts"):
        train_seeds(short, 2, store, str(out), WORKERS)
    assert not (out / "seed-0").exists()


def test_a_single_training_does_not_take_the_place_of_an_unfinished_one_of_several_seeds(
    store: str, short: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "all"
    train(short, store, str(out / "seed-0"), WORKERS)
    with pytest.raises(IrmasError, match="unfinished training of several seeds: resume it with"):
        train(build_recipe(short.model_dump(), {"seed": 5}, "the test"), store, str(out), WORKERS)
    assert [path.name for path in out.iterdir() if path.is_dir()] == ["seed-0"]


@pytest.mark.drill
def test_members_validated_on_other_clips_have_no_joint_validation(
    model: Any, tmp_path: Path
) -> None:
    """What is new to one was learnt by the other."""
    names = [model("a"), model("b", **{"validation.seed": 3})]
    out = str(tmp_path / "both")
    made = join_models(names, out)
    assert made.thresholds_from.startswith("means of the calibrated thresholds of 2 models")
    assert not (tmp_path / "both" / "validation.parquet").exists()
    expected = []
    for name in names:
        own = read_scores(Path(name) / "validation.parquet")
        thresholds = np.minimum(read_description(name).threshold_array(), 1)
        expected.append(fit_platt(own.labels, own.scores)(thresholds))
    found = list(made.thresholds.values())
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-6)
    with pytest.raises(IrmasError, match="no clip is new to all of them"):
        search_decisions(out, Recipe().thresholds)


@pytest.mark.drill
def test_models_that_do_not_go_together_are_refused_by_name(
    model: Any, short: Recipe, tmp_path: Path
) -> None:
    def refuse(why: str, *models: str) -> None:
        with pytest.raises(IrmasError, match=why):
            join_models(models, str(tmp_path / "never"))

    a, b = model("a"), model("b", seed=1)
    refuse("two models or more: .*a is one", a)
    refuse(r"\w+ is the same model as .*a", a, b, a)
    refuse(r"c has other windows than .*a: frames=\d+ rather than \d+",
           a, model("c", **{"window.seconds": 0.4}))  # fmt: skip
    refuse("hop_frames=8 rather than 17", a, model("d", **{"window.hop_seconds": 0.2}))
    both = str(tmp_path / "both")
    join_models([a, b], both)
    refuse("both is an ensemble itself: name its members", a, both)
    refuse("none is not a model directory", a, str(tmp_path / "none"))
    with pytest.raises(IrmasError, match="both holds another model"):
        join_models([b, a], both)
    features = short.features.model_copy(update={"hop_length": 256})
    clips = synthetic_clips(48, seed=0)
    place = write_store(tmp_path / "s", clips, "store", short.corpus.vocabulary, features)
    other = build_recipe(short.model_dump(), {"features.hop_length": 256}, "the test")
    train(other, place, str(tmp_path / "e"), WORKERS)
    refuse("e has other features than .*a: hop_length=256 rather than 512", a, str(tmp_path / "e"))
    codes = {"mid": "m", "low": "l", "top": "t"}
    named = build_recipe(short.model_dump(), {"corpus.instruments": codes}, "the test")
    vocabulary = named.corpus.vocabulary
    reordered = replace(clips, labels=clips.labels[:, [1, 0, 2]])
    place = write_store(tmp_path / "v", reordered, "store", vocabulary)
    train(named, place, str(tmp_path / "f"), WORKERS)
    refuse("f has other instruments than .*a: mid, low, top, not low, mid, top",
           a, str(tmp_path / "f"))  # fmt: skip
    described = read_description(b)
    corpus = {**described.recipe["corpus"], "families": {"all": ["low", "mid"]}}
    recipe = {**described.recipe, "corpus": corpus}
    write_description(b, described.model_copy(update={"recipe": recipe}))
    refuse("b has other families than .*a", a, b)
    recipe = {**described.recipe, "validation": {"former": 0.2}}
    write_description(b, described.model_copy(update={"recipe": recipe}))
    refuse("unknown setting validation.former", a, b)
    (tmp_path / "b" / "validation.parquet").unlink()
    refuse("b has no validation scores", a, b)
    assert not (tmp_path / "never").exists()

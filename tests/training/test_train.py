"""The stage: a model directory is written once, for one recipe."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError, StoreError
from irmas_dist.storage.locks import lock_directory
from irmas_dist.storage.results import PROGRESS
from irmas_dist.tracking.outcome import awaiting_uploads
from irmas_dist.tracking.run_file import RunFile, read_records, run_files, write_records
from irmas_dist.training.checkpoint import CHECKPOINT_FILE, epoch_directory
from irmas_dist.training.ensemble import train_seeds
from irmas_dist.training.learner import Learner
from irmas_dist.training.model_description import ModelDescription, read_description
from irmas_dist.training.train import train
from tests.small_disks import mounted
from tests.training.conftest import WORKERS
from tests.wandb_server import WandbServer


def test_a_finished_model_is_not_trained_again_and_another_recipe_is_refused(
    trained: tuple[str, ModelDescription, Recipe], features: str
) -> None:
    path, description, recipe = trained
    before = Path(path, "model.safetensors").stat().st_mtime_ns
    assert train(recipe, features, path, WORKERS) == description
    assert Path(path, "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(IrmasError, match="another recipe"):
        train(recipe.model_copy(update={"seed": 7}), features, path, WORKERS)


KILLED_AFTER_THE_MODEL = """
import os, pkgutil, sys, time
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.training.model_directory import save_model  # which has imported its own
from irmas_dist.training.train import train

place, out, features, recipe = sys.argv[1:]

def kill(*given, **named):
    if "storage" not in place or str(given[0]).endswith("begun.json"):
        time.sleep(1.5)  # What is logged goes to disk each second.
        os._exit(9)

owner, _, name = place.rpartition(".")
setattr(pkgutil.resolve_name(owner), name, kill)
train(Recipe.model_validate_json(recipe), features, out, WorkerSettings())
"""
"""Dies where it would call a function, once the model is written."""


def interrupt_after(epochs: int, patched: pytest.MonkeyPatch) -> None:
    """Interrupt training as a user does, within the epoch after so many."""
    run_epoch = Learner.run_epoch

    def interrupted(learner: Learner) -> dict[str, float]:
        if learner.epoch == epochs:
            raise KeyboardInterrupt
        return run_epoch(learner)

    patched.setattr(Learner, "run_epoch", interrupted)


def test_a_finished_model_is_not_the_answer_for_other_labels(
    trained: tuple[str, ModelDescription, Recipe], relabelled: str
) -> None:
    path, _, recipe = trained
    with pytest.raises(IrmasError, match=r"holds a model of other features \(\w+, not \w+\)"):
        train(recipe, relabelled, path, WORKERS)


@pytest.mark.usefixtures("no_ray")
def test_an_unfinished_training_is_not_resumed_with_another_recipe_or_other_labels(
    features: str, relabelled: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"training.epochs": 2, "tracking.mode": "disabled"}
    longer = build_recipe(recipe.model_dump(), changes, "the test")
    out = str(tmp_path / "m")
    interrupt_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(longer, features, out, WorkerSettings())
    with pytest.raises(IrmasError, match="unfinished training of another recipe"):
        train(longer.model_copy(update={"seed": 7}), features, out, WorkerSettings())
    with pytest.raises(IrmasError, match="unfinished training of other features"):
        train(longer, relabelled, out, WorkerSettings())


@pytest.mark.usefixtures("no_ray")
def test_a_full_disk_is_one_line_and_the_same_command_resumes(
    features: str, recipe: Recipe, tmp_path: Path
) -> None:
    disabled = build_recipe(recipe.model_dump(), {"tracking.mode": "disabled"}, "the test")
    with mounted(tmp_path / "disk", "1m") as disk:
        (disk / "filler").write_bytes(bytes(1000 * 1024))
        line = r"No space left on device; the same command resumes$"
        with pytest.raises(StoreError, match=line):
            train(disabled, features, str(disk / "m"), WorkerSettings())
        (disk / "filler").unlink()
        assert train(disabled, features, str(disk / "m"), WorkerSettings()).history


@pytest.mark.usefixtures("no_ray")
def test_a_training_that_saved_no_epoch_does_not_hold_its_directory(
    features: str, relabelled: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disabled = build_recipe(recipe.model_dump(), {"tracking.mode": "disabled"}, "the test")
    out = str(tmp_path / "m")
    with monkeypatch.context() as patched:
        interrupt_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            train(disabled, features, out, WorkerSettings())
    other = disabled.model_copy(update={"seed": 7})
    damaged = Path(epoch_directory(f"{out}/{PROGRESS}", "attempt-001", 1), CHECKPOINT_FILE)
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"not all of it")
    for start in (train, partial(train_seeds, seeds=2)):
        with pytest.raises(IrmasError, match="holds an unfinished training of"):
            start(recipe=other, features=relabelled, out=out, workers=WorkerSettings())
    damaged.unlink()
    described = train(other, relabelled, out, WorkerSettings())
    assert described.recipe["seed"] == 7
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "known.parquet",
        "model.json",
        "model.safetensors",
        "validation.parquet",
    }


@pytest.mark.usefixtures("no_ray")
def test_what_cannot_be_trained_is_refused_before_ray_starts(
    trained: tuple[str, ModelDescription, Recipe],
    features: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, description, recipe = trained
    assert train(recipe, features, path, WORKERS) == description
    with pytest.raises(IrmasError, match="holds a model of another recipe"):
        train(recipe.model_copy(update={"seed": 7}), features, path, WORKERS)
    new = str(tmp_path / "new")
    other = build_recipe(recipe.model_dump(), {"features.bands": 40}, "the test")
    with pytest.raises(
        IrmasError, match="made with other settings than this recipe has: bands=32 rather"
    ):
        train(other, features, new, WORKERS)
    short = build_recipe(recipe.model_dump(), {"window.seconds": 0.01}, "the test")
    with pytest.raises(IrmasError, match=r"^model\.blocks=\d .* leaves nothing"):
        train(short, features, new, WORKERS)
    single = build_recipe(recipe.model_dump(), {"training.batch_size": 1}, "the test")
    with pytest.raises(IrmasError, match=r"--workers 2: training\.batch_size=1 has no example"):
        train(single, features, new, WorkerSettings(count=2))
    graph = build_recipe(recipe.model_dump(), {"training.graph": "on"}, "the test")
    with pytest.raises(IrmasError, match=r"training\.graph=on needs one worker; "):
        train(graph, features, new, WorkerSettings(count=2))
    with monkeypatch.context() as patched:
        patched.setattr("irmas_dist.training.train.open_training_data", None)
        with pytest.raises(IrmasError, match="--cpus 9999: this machine has"):
            train(recipe, features, new, WorkerSettings(cpus=9_999))
    with lock_directory(new), pytest.raises(IrmasError, match="new is in use by process"):
        train(recipe, features, new, WORKERS)
    (tmp_path / "file").touch()
    with pytest.raises(IrmasError, match="file is a file: name a directory"):
        train(recipe, features, str(tmp_path / "file"), WORKERS)
    with pytest.raises(IrmasError, match="cannot be written"):
        train(recipe, features, "/proc/model", WORKERS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("no_ray")
def test_a_resumed_training_has_every_epoch_once_in_wandb(
    features: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"training.epochs": 3, "training.patience": 99, "tracking.directory": str(tmp_path)}
    longer = build_recipe(recipe.model_dump(), changes, "the test")
    out = str(tmp_path / "m")
    with monkeypatch.context() as patched:
        interrupt_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            train(longer, features, out, WorkerSettings())
    (first,) = run_files(tmp_path)
    # A kill would have cost the last second of the run.
    write_records(first, [one for one in read_records(first) if one.history.step.num < 2])
    monkeypatch.chdir(tmp_path)  # It is resumed from anywhere, and logged as the user likes.
    described = train(
        build_recipe(longer.model_dump(), {"tracking.timeout_s": 20.0}, "the test"),
        features, out, WorkerSettings(),
    )  # fmt: skip
    files = run_files(tmp_path)
    steps = [
        record.history.step.num
        for file in files
        for record in read_records(file)
        if record.HasField("history")
    ]
    assert steps == [1, 2, 3]
    last = RunFile(files[1])
    assert last.run.run_id == described.run
    best = max(epoch["val_macro_f1"] for epoch in described.history)
    assert last.summary["val_macro_f1"] == pytest.approx(best)
    made = [one.artifact for one in read_records(files[1]) if one.HasField("artifact")]
    assert {(one.type, one.use_after_commit) for one in made} == {
        ("dataset", True),
        ("model", False),
    }


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    "part",
    [
        "Run.made_model",
        pytest.param("write_description", marks=pytest.mark.drill),
        pytest.param("storage.remove", marks=pytest.mark.drill),
    ],
)
def test_a_kill_after_the_model_was_written_costs_wandb_nothing(
    features: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    wandb_server: WandbServer, part: str,
) -> None:  # fmt: skip
    changes = {"training.epochs": 2, "tracking.directory": str(tmp_path)}
    recipe = build_recipe(recipe.model_dump(), changes, "the test")
    place = {
        "write_description": "irmas_dist.training.model_description.write_description",
        "Run.made_model": "irmas_dist.tracking.run.Run.made_model",
        "storage.remove": "irmas_dist.storage.remove",
    }[part]
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_THE_MODEL, place, str(tmp_path / "m"), features,
         recipe.model_dump_json()], capture_output=True, text=True, env=own,
    )  # fmt: skip
    assert killed.returncode == 9, killed.stderr
    with awaiting_uploads(30):
        described = train(recipe, features, str(tmp_path / "m"), WorkerSettings())
    assert described == read_description(tmp_path / "m")
    (run,) = wandb_server.runs.values()
    assert (run.name, run.state, run.steps()) == (described.run, "finished", [1, 2])
    assert run.summary["best_epoch"] == described.best_epoch
    model = next(one for one in wandb_server.artifacts if one.kind == "model")
    assert model.files["model.json"] == (tmp_path / "m" / "model.json").read_bytes()
    assert sorted(each.name for each in (tmp_path / "m").iterdir()) == [
        "known.parquet", "model.json", "model.safetensors", "validation.parquet",
    ]  # fmt: skip
    with awaiting_uploads(30):
        assert train(recipe, features, str(tmp_path / "m"), WorkerSettings()) == described
    assert len(run_files(tmp_path)) == 2


@pytest.mark.usefixtures("no_ray")
def test_a_training_is_in_wandb_with_its_sweep_its_features_and_its_model(
    features: str,
    recipe: Recipe,
    tmp_path: Path,
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = {"training.epochs": 1, "tracking.directory": str(tmp_path), "tracking.group": "sweep"}
    out = tmp_path / "m"
    # It is resumed after an interruption before anything was logged.
    unlogged = build_recipe(recipe.model_dump(), {**changes, "tracking.mode": "disabled"}, "it")
    with monkeypatch.context() as patched:
        interrupt_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            train(unlogged, features, str(out), WorkerSettings())
    with awaiting_uploads(30):
        described = train(
            build_recipe(recipe.model_dump(), changes, "the test"), features, str(out),
            WorkerSettings(),
        )  # fmt: skip
    (run,) = wandb_server.runs.values()
    assert (run.name, run.display_name) == (described.run, "m")
    assert (run.group, run.job_type, run.state) == ("sweep", "train", "finished")
    (used,) = run.used
    assert used.metadata["store"] == described.data.store
    model = next(one for one in wandb_server.artifacts if one.kind == "model")
    assert (model.collection, sorted(model.aliases)) == ("model-m", ["best", "latest"])
    assert model.metadata["val_macro_f1"] == described.scores["val_macro_f1"]
    for name, content in model.files.items():
        assert content == (out / name).read_bytes()
    files = {"known.parquet", "model.json", "model.safetensors", "validation.parquet"}
    assert set(model.files) == files
    address = f"{wandb_server.url}/tester/irmas-dist/runs/{run.name}"
    shown = capsys.readouterr().err
    assert f"W&B: {address}\n" in shown
    assert f"W&B: 1 run uploaded {address}\n" in shown

"""One worker on a Ray that is running: an actor gives the model that this process gives."""

import os
import re
import signal
from pathlib import Path

import pytest
import ray  # puts the psutil that it brings along on the import path

# isort: split
import psutil

from irmas_dist.config.training import LearnerSettings, WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.storage.results import PROGRESS
from irmas_dist.training.checkpoint import CHECKPOINT_FILE
from irmas_dist.training.data import TrainingData
from irmas_dist.training.distributed import train_distributed
from irmas_dist.training.local import computing_on, train_here
from irmas_dist.training.loop import WorkerLostError

ALONE = WorkerSettings(gpu=False)


def worker() -> int:
    """The process of the actor, of the Ray that this test has and of no other."""
    session = ray._private.worker._global_node.get_session_dir_path()
    (found,) = [
        process.pid
        for process in psutil.process_iter(["name"])
        if process.info["name"].startswith("ray::SingleWorker")
        and session in " ".join(process.parent().cmdline())
    ]
    return found


def change(settings: LearnerSettings, **training: object) -> LearnerSettings:
    changed = settings.training.model_copy(update=training)
    return settings.model_copy(update={"training": changed})


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_is_replaced_and_the_model_is_the_same_bit_for_bit(
    data: TrainingData,
    settings: LearnerSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    longer = change(settings, epochs=60, patience=60)
    with computing_on(1):
        expected = train_here(data, longer, {}, str(tmp_path / "here"), ALONE, lambda _: None)
    out = tmp_path / "actor"
    damaged: list[Path] = []

    def kill_once(metrics: dict[str, float]) -> None:
        if metrics["epoch"] > 1 and not damaged:
            os.kill(worker(), signal.SIGKILL)
            damaged.append(max(out.glob(f"{PROGRESS}/*/*/{CHECKPOINT_FILE}")))
            damaged[0].write_bytes(damaged[0].read_bytes()[:-1])

    found = train_distributed(data, longer, {}, str(out), ALONE, kill_once)
    messages = capsys.readouterr().err
    assert f"{damaged[0]} is damaged" in messages
    assert re.search(
        r"a worker was lost \(.+\); resuming from the last checkpoint \(3 retries left\)", messages
    )
    assert "resuming after epoch " in messages
    assert found.history == expected.history
    assert {path.name for path in out.iterdir()} == {
        "known.parquet", "model.json", "model.safetensors", "validation.parquet",
    }  # fmt: skip
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "here" / path.name).read_bytes()


@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_is_lost_before_it_saves_starts_again_and_the_line_says_why(
    data: TrainingData,
    settings: LearnerSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lose(*_: object) -> None:
        raise WorkerLostError("no address")

    monkeypatch.setattr("irmas_dist.training.actor.train_in_actor", lose)
    once = WorkerSettings(retries=1)
    with pytest.raises(
        WorkerLostError, match=r"lost its workers 2 times, the last time: no address"
    ):
        train_distributed(data, settings, {}, str(tmp_path), once, lambda metrics: None)
    told = " ".join(capsys.readouterr().err.split())
    assert told == "a worker was lost (no address); starting again (1 retry left)"


@pytest.mark.usefixtures("ray_cluster")
def test_a_failure_of_training_is_not_tried_again(
    data: TrainingData,
    settings: LearnerSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wild = change(settings, lr=1e30)
    with pytest.raises(IrmasError, match=r"^training failed: the loss became nan or infinite in"):
        train_distributed(data, wild, {}, str(tmp_path), ALONE, lambda metrics: None)
    assert "a worker was lost" not in capsys.readouterr().err

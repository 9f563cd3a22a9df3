"""A sweep is resumed after its driver was killed or interrupted."""

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import optuna
import pytest
import ray  # puts the psutil that it brings along on the import path
import torch
from optuna.trial import TrialState

from irmas_dist import storage
from irmas_dist.search.storages import open_study
from irmas_dist.search.study import VALUES
from irmas_dist.search.sweep_directory import read_record
from irmas_dist.search.wandb_runs import trial_run_id
from tests.conftest import CONFIGS, TINY
from tests.ray_cluster import end_family
from tests.wandb_server import WandbServer

# isort: split
import psutil

SPACE = "training.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}\n"
EPOCHS = 12
TRIALS = 4


class Driver:
    """`irmas sweep` in a process of its own, on the Ray that all tests share."""

    def __init__(self, features: str, folder: Path) -> None:
        self.features, self.out = features, folder / "swept"
        self.started: list[subprocess.Popen[str]] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
            "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "IRMAS_LOG_DIR": str(folder / "logs"),
        }
        (folder / "space.yaml").write_text(SPACE)
        self.first = ["--space", str(folder / "space.yaml"), "--scheduler", "none"]
        self.first += ["--config", str(CONFIGS / "demo.yaml"), "--trials", str(TRIALS)]
        longer = (
            "training.windows_per_clip=4",
            f"training.epochs={EPOCHS}",
            "training.patience=99",
        )
        for override in (*TINY, *longer, f"tracking.directory={folder}"):
            self.first += ["--set", override]

    def start(self, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "irmas_dist", "sweep", self.features, str(self.out), *options],
            env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def study(self) -> optuna.Study:
        return open_study(str(self.out / "study.db"))

    def wait_until(self, process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None:
            if (self.out / "sweep.json").exists() and holds():
                return
            time.sleep(0.05)
        process.kill()
        pytest.fail(f"not reached: {process.communicate()}")

    def saved_epochs(self) -> dict[int, int]:
        """The epoch after which each trial was last saved; the digest behind it is left out."""
        return {
            int(path.parent.name): torch.load(io.BytesIO(path.read_bytes()[:-32]))["epoch"]
            for path in self.out.glob("trials/*/checkpoint.pt")
        }

    def mid_trial(self) -> bool:
        """Whether a trial has ended and another one has run some epochs."""
        with closing(sqlite3.connect(self.out / "study.db", timeout=30)) as study:
            try:
                (done,) = study.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'")
                running = study.execute(
                    "SELECT count(*) FROM trials JOIN trial_intermediate_values USING (trial_id) "
                    "WHERE state = 'RUNNING' GROUP BY trial_id"
                ).fetchall()
            except sqlite3.OperationalError:  # not made yet
                return False
        return done[0] > 0 and any(2 <= epochs < EPOCHS - 2 for (epochs,) in running)


@pytest.fixture
def driver(features: str, tmp_path: Path) -> Iterator[Driver]:
    made = Driver(features, tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def results(directory: Path) -> dict[int, list[dict]]:
    """Tune's results of each trial."""
    return {
        int(path.parent.name): [json.loads(line) for line in path.read_text().splitlines()]
        for path in directory.glob("*/result.json")
    }


@pytest.mark.drill
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_sweep_is_resumed_after_its_driver_was(
    wandb_server: WandbServer, driver: Driver, end: signal.Signals
) -> None:
    process = driver.start(*driver.first)
    driver.wait_until(process, driver.mid_trial)
    os.killpg(process.pid, end)
    _, errors = process.communicate(timeout=60)
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert "irmas: interrupted; the same command resumes" in errors.splitlines()[-1]
        assert "Traceback" not in errors
    before = {trial.number: trial for trial in driver.study().trials}
    ended = {n: trial for n, trial in before.items() if trial.state == TrialState.COMPLETE}
    (first_run,) = driver.out.glob("tune-*")

    saved = driver.saved_epochs()
    resumed = driver.start(*(driver.first if end == signal.SIGKILL else ["--resume"]), "--json")
    printed, errors = resumed.communicate(timeout=250)
    assert resumed.returncode == 0, errors
    after = {trial.number: trial for trial in driver.study().trials}
    assert [after[number].state for number in sorted(after)] == [TrialState.COMPLETE] * TRIALS
    for trial in after.values():
        assert list(trial.intermediate_values) == list(range(1, EPOCHS + 1))
    for number, trial in ended.items():
        assert after[number] == trial
    (second_run,) = set(driver.out.glob("tune-*")) - {first_run}
    in_second = results(second_run)
    assert in_second.keys() == after.keys() - ended.keys()
    for number, lines in in_second.items():
        # The last saved epoch is reported again: the driver may not have received it.
        assert [line["epoch"] for line in lines] == list(range(saved.get(number, 1), EPOCHS + 1))
        assert after[number].params == {**before.get(number, after[number]).params}
        assert lines[-1]["val_macro_f1"] == after[number].value
    assert saved.keys() & in_second.keys()
    assert {t["number"]: t["value"] for t in json.loads(printed)["trials"]} == {
        number: trial.value for number, trial in after.items()
    }
    identity = read_record(driver.out).identity
    assert wandb_server.runs.keys() == {identity, *(trial_run_id(identity, n) for n in after)}
    for number in after:
        run = wandb_server.runs[trial_run_id(identity, number)]
        assert (run.group, run.job_type) == (driver.out.name, "trial")
        assert (run.steps(), run.state) == (list(range(1, EPOCHS + 1)), "finished")
    assert not (driver.out / "ends").exists()
    assert f"W&B: {wandb_server.url}/tester/irmas-dist/groups/{driver.out.name}" in errors
    assert "not uploaded" not in errors
    assert len(wandb_server.views) == 1


@pytest.mark.drill
@pytest.mark.parametrize("scheduler", ["hyperband", "pbt"])
def test_trials_of_pausing_schedulers_are_resumed_too(driver: Driver, scheduler: str) -> None:
    def under_way() -> bool:
        """Whether a trial has other values, or with HyperBand all have started."""
        trials = driver.study().trials if (driver.out / "study.db").exists() else []
        if scheduler == "pbt":
            return any(VALUES in trial.user_attrs for trial in trials)
        return len([trial for trial in trials if len(trial.intermediate_values) > 1]) == TRIALS

    process = driver.start(*driver.first, "--scheduler", scheduler)
    driver.wait_until(process, under_way)
    end_family(process)
    before = {trial.number: trial for trial in driver.study().trials}
    (first_run,) = driver.out.glob("tune-*")
    saved = driver.saved_epochs()

    resumed = driver.start("--resume", "--json")
    printed, errors = resumed.communicate(timeout=280)
    assert resumed.returncode == 0, errors
    after = {trial.number: trial for trial in driver.study().trials}
    assert after.keys() == before.keys() == set(range(TRIALS))
    ended = {TrialState.COMPLETE} | ({TrialState.PRUNED} if scheduler == "hyperband" else set())
    assert {trial.state for trial in after.values()} <= ended
    assert TrialState.COMPLETE in {trial.state for trial in after.values()}
    (second_run,) = set(driver.out.glob("tune-*")) - {first_run}
    for number, lines in results(second_run).items():
        assert lines[0]["epoch"] == saved.get(number, 1)
        given = before[number].user_attrs.get(VALUES, before[number].params)
        assert lines[0]["config"]["training.lr"] == given["training.lr"]
    for trial in json.loads(printed)["trials"]:
        recorded = after[trial["number"]]
        assert trial["params"] == recorded.user_attrs.get(VALUES, recorded.params)
        if trial["state"] == "completed":
            assert max(recorded.intermediate_values) == EPOCHS


@pytest.mark.drill
def test_a_killed_worker_fails_its_own_trial_only(driver: Driver) -> None:
    process = driver.start(*driver.first, "--json")
    session = ray._private.worker._global_node.get_session_dir_path()

    def kill_the_worker_of_a_trial() -> bool:
        if not driver.mid_trial():
            return False
        for worker in psutil.process_iter():
            # Ray's names of the process of a trial and of its methods. Other Rays may run on this
            # host: only a worker of this one's raylet will do.
            with suppress(psutil.NoSuchProcess):  # It, or its parent, has ended.
                of_a_trial = worker.name().startswith("ray::ResourceTrainable")
                raylet = worker.parent() if of_a_trial else None
                if raylet and session in " ".join(raylet.cmdline()):
                    worker.kill()
                    return True
        return False  # The trial has ended meanwhile.

    driver.wait_until(process, kill_the_worker_of_a_trial)
    printed, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors
    trials = json.loads(printed)["trials"]
    failed = [trial for trial in trials if trial["state"] == "failed"]
    assert [trial["reason"] for trial in failed] == [
        "its worker process ended (out of memory, or killed)"
    ]
    assert len(trials) == TRIALS
    assert sum(trial["state"] == "completed" for trial in trials) == TRIALS - 1


@pytest.mark.drill
def test_a_killed_sweep_resumes_from_checkpoints_in_an_object_store(
    driver: Driver, bucket: str
) -> None:
    # A Ray of its own, whose workers have the keys to the store in their environment.
    driver.environment = {**os.environ, **driver.environment, "RAY_ADDRESS": "local"}
    progress = f"{bucket}/progress"

    def saved_epochs() -> dict[int, int]:
        return {
            int(Path(name).parent.name): torch.load(
                io.BytesIO(storage.read_bytes(f"{own}/trials/{name}")[:-32])
            )["epoch"]
            for name in storage.list_files(f"{own}/trials", recursive=True)
        }

    few = ("--concurrent", "2", "--gpus", "0")  # Of all CPUs of this machine.
    process = driver.start(*driver.first, *few, "--storage", progress)
    driver.wait_until(process, driver.mid_trial)
    end_family(process)
    own = f"{progress}/{read_record(driver.out).identity}"
    running = {t.number for t in driver.study().trials if t.state == TrialState.RUNNING}
    saved = saved_epochs()
    assert saved.keys() & running
    assert not (driver.out / "trials").exists()

    resumed = driver.start("--resume", "--json")
    _, errors = resumed.communicate(timeout=250)
    assert resumed.returncode == 0, errors
    ended = driver.study().trials
    assert [trial.state for trial in ended] == [TrialState.COMPLETE] * TRIALS
    again = max(
        name.split("/")[0] for name in storage.list_files(own, recursive=True)
        if name.startswith("tune-")
    )  # fmt: skip
    for number in saved.keys() & running:
        lines = storage.read_bytes(f"{own}/{again}/{number:04d}/result.json").splitlines()
        recorded = [json.loads(line)["epoch"] for line in lines]
        assert recorded == list(range(saved[number], EPOCHS + 1))
    assert (driver.out / "model" / "model.safetensors").exists()

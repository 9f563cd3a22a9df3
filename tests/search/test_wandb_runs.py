"""Each trial has a W&B run, which is closed as the trial ends."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.search.wandb_runs import SweepRuns
from irmas_dist.tracking.outcome import awaiting_uploads
from irmas_dist.tracking.run import Run
from irmas_dist.tracking.run_file import HEADER, RunFile, run_files, unsent_files
from irmas_dist.training.learner import SELECTED_BY
from tests.search.conftest import sweep_record
from tests.wandb_log import inspect
from tests.wandb_server import Fault, WandbServer

INSTRUMENTS = [{"code": "cel", "f1": 0.5}, {"code": "voi", "f1": 0.75}]


def sweep_runs(directory: Path, **changes: object) -> SweepRuns:
    asked = {"mode": "offline", "directory": str(directory), "timeout_s": 3, **changes}
    return SweepRuns(sweep_record(asked), directory)


def end(runs: SweepRuns, number: int, state: str, facts: Any, instruments: Any) -> None:
    """End a trial, which no study has."""
    with runs.ending(number, state, facts, instruments):
        pass


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The runs of a completed, a failed and an interrupted trial."""
    directory = tmp_path_factory.mktemp("runs")
    runs = sweep_runs(directory)
    for number in range(3):
        runs.start(number, {"training.lr": 0.1 * (number + 1)})
    runs.log(0, {"epoch": 1.0, SELECTED_BY: 0.75})
    runs.start(0, {"training.lr": 0.5})  # after a pause
    runs.log(0, {"epoch": 2.0, SELECTED_BY: 0.5})
    end(runs, 0, "completed", {"parameters": 9}, INSTRUMENTS)
    end(runs, 1, "failed", {"reason": "the loss is not finite"}, [])
    runs.close()
    return [inspect(log) for log in sorted((directory / "wandb").glob("offline-run-*/*.wandb"))]


def test_a_trial_has_one_run_which_its_identity_finds_again(written: list[dict[str, Any]]) -> None:
    identities = [f"0123456789ab-{number:04d}" for number in range(3)]
    assert sorted(run["run_id"] for run in written) == identities


def by_state(written: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {run["summary"]["state"]: run for run in written}


def test_runs_of_failed_and_interrupted_trials_are_closed_as_failed(
    written: list[dict[str, Any]],
) -> None:
    codes = {state: run["exit_code"] for state, run in by_state(written).items()}
    assert codes == {"completed": 0, "failed": 1, "interrupted": 1}
    assert by_state(written)["failed"]["summary"]["reason"] == "the loss is not finite"


def test_a_run_has_the_recipe_with_the_last_values_of_its_trial(
    written: list[dict[str, Any]],
) -> None:
    configurations = {state: run["config"] for state, run in by_state(written).items()}
    assert configurations["completed"]["training"]["lr"] == 0.5
    assert configurations["failed"]["training"]["lr"] == 0.2
    for configuration in configurations.values():
        assert configuration["training"]["epochs"] == Recipe().training.epochs


def test_a_run_has_its_epochs_and_the_facts_of_its_end(written: list[dict[str, Any]]) -> None:
    summary = by_state(written)["completed"]["summary"]
    assert summary["epoch"] == 2
    assert summary[SELECTED_BY] == 0.75
    assert summary["parameters"] == 9
    assert summary["instruments"]["nrows"] == len(INSTRUMENTS)
    assert "instruments" not in by_state(written)["failed"]["summary"]


def test_a_sweep_s_runs_are_uploaded_while_it_goes_on(
    wandb_server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with awaiting_uploads(30):
        runs = sweep_runs(tmp_path, mode="online")
        for number in range(3):
            runs.start(number, {"training.lr": 0.1})
            runs.log(number, {"epoch": 1.0, SELECTED_BY: 0.5})
        end(runs, 0, "completed", {"parameters": 9}, INSTRUMENTS)
        end(runs, 1, "failed", {}, [])
        runs.close()
    stored = [wandb_server.runs[f"0123456789ab-{number:04d}"] for number in range(3)]
    assert [run.state for run in stored] == ["finished", "failed", "failed"]
    assert {(run.group, run.job_type) for run in stored} == {("sweep", "trial")}
    assert {run.steps() == [1] for run in stored} == {True}
    used = {artifact.identity for run in stored for artifact in run.used}
    assert len(used) == 1  # by all three
    assert stored[0].tags == ["sweep", "completed"]
    address = f"{wandb_server.url}/tester/irmas-dist/groups/sweep"
    assert f"W&B: 3 runs uploaded {address}" in capsys.readouterr().err


def test_what_an_earlier_driver_had_no_time_to_upload_is_uploaded(
    wandb_server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = sweep_runs(tmp_path)
    for number in range(3):
        earlier.start(number, {"training.lr": 0.1})
        earlier.log(number, {"epoch": 1.0})
        end(earlier, number, "completed", {}, [])
    earlier.close()
    # Trial 3 was being started when that driver was killed.
    unbegun = tmp_path / "wandb" / "offline-run-20260101_000000-0123456789ab-0003"
    unbegun.mkdir()
    (unbegun / "run-0123456789ab-0003.wandb").write_bytes(HEADER)
    with awaiting_uploads(30):
        runs = sweep_runs(tmp_path, mode="auto")
        for number in (1, 2, 3):  # Of these, some go on.
            runs.start(number, {"training.lr": 0.1}, [{"epoch": 1.0}])
            runs.log(number, {"epoch": 2.0})
            end(runs, number, "completed", {}, [])
        runs.close()
    steps = [wandb_server.runs[f"0123456789ab-{number:04d}"].steps() for number in range(4)]
    assert steps == [[1], [1, 2], [1, 2], [1, 2]]
    assert {run.job_type for run in wandb_server.runs.values()} == {"trial"}
    assert not unsent_files(run_files(tmp_path))
    assert "not uploaded" not in capsys.readouterr().err


def test_a_resumed_sweep_without_trials_left_uploads_what_its_earlier_driver_did_not(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    earlier = sweep_runs(tmp_path)
    earlier.start(0, {"training.lr": 0.1})
    end(earlier, 0, "completed", {}, [])
    earlier.close()
    with awaiting_uploads(30):
        runs = sweep_runs(tmp_path, mode="auto")
        runs.complete(set())
        runs.close()
    assert wandb_server.runs["0123456789ab-0000"].state == "finished"


@pytest.mark.parametrize(
    ("fault", "wait_s"), [(Fault(status=401), 60), (None, 1)], ids=["refusing", "dead"]
)
def test_a_server_that_takes_nothing_costs_a_sweep_one_line(
    fault: Fault | None,
    wait_s: float,
    wandb_server: WandbServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if fault is None:
        wandb_server.stop()
    else:
        wandb_server.faults = [fault]
    with awaiting_uploads(wait_s):  # A refusal ends it as soon as it is known of all runs.
        runs = sweep_runs(tmp_path, mode="auto")
        for number in range(3):
            runs.start(number, {"training.lr": 0.1})
            end(runs, number, "completed", {}, INSTRUMENTS)
        runs.close()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("W&B")]
    assert len(lines) == 1
    assert f"irmas review {tmp_path} --sync" in lines[0]
    assert len(run_files(tmp_path)) == 3


class Recorded(Run):
    """A run that keeps what it is told, in order."""

    def __init__(self, **opened: Any) -> None:
        super().__init__(None)
        self.opened, self.told = opened, []  # type: ignore[var-annotated]

    def log(self, metrics: Any) -> None:
        self.told.append(metrics["epoch"])

    def configure(self, config: Any) -> None:
        self.told.append("configured")

    def tag(self, *tags: str) -> None:
        self.told.append(tags)

    def close(self, *, failed: bool = False) -> None:
        self.told.append("failed" if failed else "done")


class Opened:
    """Stands in for opening runs: they open when the network is up."""

    def __init__(self) -> None:
        self.runs: list[Recorded] = []
        self.network = threading.Event()

    def __call__(self, settings: object, **options: Any) -> Recorded:
        self.network.wait()
        self.runs.append(Recorded(**options))
        return self.runs[-1]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    opener = Opened()
    monkeypatch.setattr("irmas_dist.search.wandb_runs.start_run", opener)
    yield opener
    opener.network.set()


def test_a_run_that_cannot_be_opened_costs_that_trial_s_and_is_completed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**options: Any) -> None:
        raise TimeoutError("Timed out waiting for wandb-core")

    runs = sweep_runs(tmp_path)
    for number in range(3):
        with monkeypatch.context() as patch:
            if number == 1:
                patch.setattr("wandb.init", refuse)
            runs.start(number, {"training.lr": 0.1})
            runs._thread.submit(int).result()
        end(runs, number, "completed", {}, [])
    runs.close()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("W&B")]
    assert len(told) == 1
    assert "(its service on this machine does not answer)" in told[0]
    assert {file.name for file in run_files(tmp_path)} == {
        "run-0123456789ab-0000.wandb", "run-0123456789ab-0002.wandb",
    }  # fmt: skip
    following = sweep_runs(tmp_path)
    following.complete(set())
    following.close()
    assert len(run_files(tmp_path)) == 3


def test_a_slow_network_delays_no_trial(opened: Opened, tmp_path: Path) -> None:
    runs = sweep_runs(tmp_path)
    runs.start(0, {})
    runs.log(0, {"epoch": 1.0})
    runs.log(0, {"epoch": 2.0})
    end(runs, 0, "pruned", {}, [])
    assert not opened.runs
    opened.network.set()
    runs.close()
    (run,) = opened.runs
    assert run.told == [1.0, 2.0, ("pruned",), "done"]


def test_a_trial_that_starts_again_after_its_node_was_lost_has_what_its_checkpoint_has(
    opened: Opened, tmp_path: Path
) -> None:
    opened.network.set()
    runs = sweep_runs(tmp_path)
    runs.start(0, {})
    runs.log(0, {"epoch": 1.0})
    runs.start(0, {}, [{"epoch": 1.0}, {"epoch": 2.0}])
    runs.close()
    (run,) = opened.runs
    assert run.told == [1.0, "configured", 1.0, 2.0, ("interrupted",), "failed"]


def test_a_trial_of_which_nothing_was_logged_is_new_to_wandb(
    opened: Opened, tmp_path: Path
) -> None:
    opened.network.set()
    runs = sweep_runs(tmp_path)
    for number, history in enumerate(([], [{"epoch": 1.0}])):
        runs.start(number, {}, history)
    runs.close()
    assert [run.opened["resumed"] for run in opened.runs] == [False, True]


def test_runs_of_a_sweep_are_a_group_named_by_trial(opened: Opened, tmp_path: Path) -> None:
    opened.network.set()
    runs = sweep_runs(tmp_path)
    runs.start(7, {})
    runs.close()
    (run,) = opened.runs
    described = {name: run.opened[name] for name in ("name", "group", "job_type", "tags")}
    expected = {"name": "sweep-007", "group": "sweep", "job_type": "trial", "tags": ["sweep"]}
    assert described == expected


def test_names_that_are_too_long_keep_the_trial_s_number_and_one_group(tmp_path: Path) -> None:
    record = sweep_record({"mode": "offline", "directory": str(tmp_path)})
    record = record.model_copy(update={"name": "x" * 150})
    runs = SweepRuns(record, tmp_path)
    for number in (7, 1234):
        runs.start(number, {})
    runs.close()
    found = [RunFile(file).run for file in run_files(tmp_path)]
    assert [run.display_name for run in found] == ["x" * 124 + "-007", "x" * 123 + "-1234"]
    assert {run.run_group for run in found} == {record.group} == {"x" * 128}


def test_an_error_in_the_thread_is_one_line_and_ends_no_sweep(
    opened: Opened,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(run: Recorded, config: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Recorded, "configure", fail)
    opened.network.set()
    runs = sweep_runs(tmp_path)
    for number in (3, 4):
        runs.start(number, {})
        runs.log(number, {"epoch": 1.0})
        runs.start(number, {})  # after a pause
    runs.close()
    assert [run.told for run in opened.runs] == [[1.0, ("interrupted",), "failed"]] * 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("W&B")]
    assert told == ["W&B failed to log a trial (the disk is full)"]


KILLED = """
import os, sys, threading, time
from pathlib import Path
from tests.search.test_wandb_runs import EPOCHS, INSTRUMENTS, end, sweep_runs

runs = sweep_runs(Path(sys.argv[1]))
runs.start(0, {"training.lr": 0.5})
runs.log(0, EPOCHS[0])
runs._thread.submit(int).result()
time.sleep(1.3)
runs._thread.submit(threading.Event().wait)
for metrics in EPOCHS[1:]:
    runs.log(0, metrics)
end(runs, 0, "completed", {"parameters": 9}, INSTRUMENTS)
runs.start(1, {})
end(runs, 1, "pruned", {}, [])
os.kill(os.getpid(), 9)
"""
"""A driver that is killed just after two trials have ended; W&B has an epoch of the first."""

EPOCHS = [{"epoch": float(epoch), SELECTED_BY: 0.1 * epoch} for epoch in (1, 2, 3)]


def test_a_run_whose_driver_was_killed_after_its_trial_ended_is_completed_by_the_next(
    tmp_path: Path,
) -> None:
    environment = {name: v for name, v in os.environ.items() if name != "WANDB_SERVICE"}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    subprocess.run(command, check=False, env=environment, stderr=subprocess.DEVNULL)
    following = sweep_runs(tmp_path)
    following.complete({1})  # It runs again.
    following.close()
    first, second = [inspect(file) for file in run_files(tmp_path)]
    assert (first["epochs"], first["exit_code"]) == ([1], None)
    assert (second["epochs"], second["exit_code"]) == ([2, 3], 0)
    assert second["run_id"] == first["run_id"] == "0123456789ab-0000"
    assert second["config"]["training"]["lr"] == 0.5
    told = {name: second["summary"][name] for name in ("state", "parameters", SELECTED_BY)}
    assert told == {"state": "completed", "parameters": 9, SELECTED_BY: EPOCHS[2][SELECTED_BY]}
    assert not (tmp_path / "ends").exists()


def test_a_run_that_was_closed_before_a_kill_is_not_opened_again(tmp_path: Path) -> None:
    runs, free = sweep_runs(tmp_path), threading.Event()
    runs._thread.submit(free.wait)
    runs.start(0, {})
    end(runs, 0, "completed", {}, [])
    kept = tmp_path / "ends" / "0000.json"
    content = kept.read_bytes()
    free.set()
    runs.close()
    kept.parent.mkdir()
    kept.write_bytes(content)
    again = sweep_runs(tmp_path)
    again.complete(set())
    again.close()
    assert not kept.exists()
    assert len(run_files(tmp_path)) == 1


def test_an_interruption_before_a_kill_does_not_count_as_an_end(tmp_path: Path) -> None:
    interrupted = sweep_runs(tmp_path)
    interrupted.start(0, {})
    interrupted.log(0, EPOCHS[0])
    interrupted.close()
    killed, kill = sweep_runs(tmp_path), threading.Event()
    killed._thread.submit(kill.wait)
    killed.start(0, {}, EPOCHS[:1])
    killed.log(0, EPOCHS[1])
    end(killed, 0, "completed", {}, INSTRUMENTS)
    killed._thread.shutdown(wait=False, cancel_futures=True)
    kill.set()
    following = sweep_runs(tmp_path)
    following.complete(set())
    following.close()
    first, second = [inspect(file) for file in run_files(tmp_path)]
    assert (first["epochs"], first["summary"]["state"]) == ([1], "interrupted")
    assert (second["epochs"], second["summary"]["state"]) == ([2], "completed")
    assert not (tmp_path / "ends").exists()


def test_an_end_that_the_study_never_had_is_forgotten_also_without_wandb(tmp_path: Path) -> None:
    (tmp_path / "ends").mkdir()
    for number in (0, 1):
        (tmp_path / "ends" / f"{number:04d}.json").write_text("{}")
    runs = sweep_runs(tmp_path, mode="disabled")
    runs.complete({0})
    runs.close()
    assert [path.name for path in (tmp_path / "ends").iterdir()] == ["0001.json"]


def test_an_end_that_cannot_be_read_costs_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ends").mkdir()
    (tmp_path / "ends" / "0004.json").write_text("{")
    runs = sweep_runs(tmp_path)
    runs.complete(set())
    runs.close()
    assert "W&B may lack the end of trial 4 (" in capsys.readouterr().err

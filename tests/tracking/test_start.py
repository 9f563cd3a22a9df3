"""A run is opened on disk, tells little, and is resumed with what it had."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking.run import Run
from irmas_dist.tracking.run_file import RunFile, is_begun_elsewhere, read_records, run_files
from irmas_dist.tracking.start import start_run
from tests.wandb_log import inspect


def settings(directory: Path, **changes: object) -> TrackingSettings:
    return TrackingSettings.model_validate(
        {"mode": "offline", "directory": str(directory), "timeout_s": 3, **changes}
    )


def opened(directory: Path, **options: Any) -> Run:
    given = {"name": "x", "job_type": "train", "config": {}, "run_id": "0123abcd"}
    return start_run(settings(directory), **(given | options))


def steps(file: Path) -> list[int]:
    history = (record.history for record in read_records(file) if record.HasField("history"))
    return [row.step.num for row in history]


def test_nothing_is_logged_when_the_directory_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    run = opened(tmp_path / "file")
    run.log({"epoch": 1.0})
    run.close()
    assert run.mode == "disabled"
    assert re.search("W&B cannot be used .*; continuing without it", capsys.readouterr().err)


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_logged_elsewhere_when_the_directory_cannot_be_written(
    there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory() as name:  # All may read it, unlike pytest's own.
        directory = Path(name)
        if there:
            (directory / "wandb").mkdir()
            (directory / "wandb").chmod(0o555)
        directory.chmod(0o555)
        user = os.geteuid()
        os.seteuid(user or 65_534)
        try:
            run = opened(directory)
        finally:
            os.seteuid(user)
        run.close()
        assert run.mode == "disabled"
        assert not run_files(directory)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"W&B cannot be used .*{name}.*; continuing without it", line)


def test_a_resumed_run_has_each_epoch_once_and_what_it_had_before(tmp_path: Path) -> None:
    first = opened(tmp_path, config={"training": {"lr": 0.5}}, tags=["a"])
    first.log({"epoch": 1.0, "val_loss": 0.2})
    first.log({"epoch": 2.0, "val_loss": 0.3})
    first.summarise({"parameters": 9})
    first.close(failed=True)
    second = opened(tmp_path, name=None, job_type="evaluate", resumed=True)
    for epoch in (1.0, 2.0, 3.0):  # the whole history, from a checkpoint
        second.log({"epoch": epoch, "val_loss": 0.4})
    second.table("instruments", ["code"], [["cel"]])
    second.close()
    files = [RunFile(file) for file in run_files(tmp_path, "0123abcd")]
    assert [steps(found.path) for found in files] == [[1, 2], [3, 4]]
    assert files[1].config["training"] == {"lr": 0.5}
    assert files[1].config["command"].keys() == {"train", "evaluate"}
    summary = files[1].summary
    assert (summary["val_loss"], summary["parameters"], summary["epoch"]) == (0.2, 9, 3)
    assert summary["instruments"]["nrows"] == 1


def test_a_run_resumed_in_another_project_has_all_its_epochs_there(tmp_path: Path) -> None:
    for project, epochs in (("first", 2), ("other", 3), ("first", 4)):
        chosen = settings(tmp_path, project=project)
        run = start_run(
            chosen, name="x", job_type="train", config={}, run_id="r1", resumed=epochs > 2
        )
        for epoch in range(1, epochs + 1):  # the whole history, from a checkpoint
            run.log({"epoch": float(epoch)})
        run.close()
    files = run_files(tmp_path, "r1")
    assert [steps(file) for file in files] == [[1, 2], [1, 2, 3], [3, 4]]
    # What is on the server is asked before more is sent, as that may be in either.
    assert [is_begun_elsewhere(file) for file in files] == [False, True, True]


def test_a_run_tells_the_command_without_passwords_and_nothing_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["/home/ada/bin/irmas", "sweep", "--study", "postgresql://ada:geheim@db/x"]
    monkeypatch.setattr(sys, "argv", command)
    opened(tmp_path, job_type="trial").close()
    (file,) = run_files(tmp_path)
    told = inspect(file)
    assert told["config"]["command"]["trial"] == "irmas sweep --study postgresql://ada:***@db/x"
    content = file.read_bytes()
    for secret in (b"geheim", b"/home/ada", sys.executable.encode(), b"requirements.txt"):
        assert secret not in content
    assert not [*file.parent.glob("files/*.txt"), *file.parent.glob("files/*.patch")]


def test_full_metadata_is_w_b_s_own_without_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["irmas", "sweep", "--study", "postgresql://ada:geheim@db/x"]
    monkeypatch.setattr(sys, "argv", arguments)
    run = start_run(
        settings(tmp_path, metadata="full"), name="x", job_type="train", config={}, run_id="a"
    )
    run.close()
    (file,) = run_files(tmp_path)
    assert sys.executable.encode() in file.read_bytes()
    assert b"postgresql://ada:***@db/x" in file.read_bytes()
    assert b"geheim" not in file.read_bytes()
    assert sys.argv is arguments


def test_earlier_files_that_cannot_be_read_cost_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "wandb" / "offline-run-1-0123abcd" / "run-0123abcd.wandb").mkdir(parents=True)
    run = opened(tmp_path, resumed=True)
    run.log({"epoch": 1.0})
    run.close()
    assert RunFile(run_files(tmp_path)[-1]).last_step == 1


SERVICE_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.tracking.test_start import opened

run = opened(Path(sys.argv[1]))
for task in Path("/proc/self/task").iterdir():
    for child in (task / "children").read_text().split():
        os.kill(int(child), signal.SIGTERM)
        os.waitpid(int(child), 0)
run.close()
other = opened(Path(sys.argv[1]), run_id="45670123")
other.log({"epoch": 1.0})
other.close()
assert other.whole
"""


def test_a_service_that_is_ended_with_its_job_costs_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVICE_KILLED, str(tmp_path)]
    # Not with the service of this process.
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    ended = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, env=own)
    assert ended.returncode == 0, ended.stderr
    ours = [line for line in ended.stderr.splitlines() if not line.startswith("wandb: ")]
    assert ours == ["W&B failed to finish the run (its service on this machine has ended)"]

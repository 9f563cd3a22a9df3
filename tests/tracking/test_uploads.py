"""Runs are uploaded while they grow; a server that misbehaves costs nothing but the upload."""

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking import uploads as module
from irmas_dist.tracking.outcome import awaiting_uploads
from irmas_dist.tracking.run import Run
from irmas_dist.tracking.run_file import COPY_SUFFIX, RunFile, run_files, unsent_files
from irmas_dist.tracking.start import start_run
from irmas_dist.tracking.uploads import Upload, uploads
from tests.conftest import WANDB_KEY
from tests.waiting import wait_for
from tests.wandb_server import Fault, WandbServer

DATA = {"store": "0123456789abcdef", "manifest": "m"}


def opened(directory: Path, **options: Any) -> Run:
    tracking = TrackingSettings(directory=str(directory), timeout_s=5)
    given = {"name": "the run", "job_type": "train", "config": {"a": {"b": 1}}, "run_id": "r1"}
    return start_run(tracking, **(given | options))


def logged(directory: Path, **options: Any) -> None:
    """Log a run with everything that a run can have."""
    (directory / "model").mkdir()
    (directory / "model" / "model.json").write_text("{}")
    (directory / "model" / "model.safetensors").write_bytes(bytes(range(256)))
    run = opened(directory, group="g", tags=["t"], **options)
    run.uses_features(DATA)
    for epoch in (1.0, 2.0, 3.0):
        run.log({"epoch": epoch, "val_macro_f1": 1 / epoch, "train_loss": 1 / epoch})
    run.table("instruments", ["code", "f1"], [["cel", 0.5]])
    run.page("report", lambda: "<b>page</b>")
    run.summarise({"parameters": 9})
    run.made_model("m", str(directory / "model"), {"macro_f1": 1.0})
    run.tag("completed")
    run.close()


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what is on the terminal, wandb's own messages left out."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if not line.startswith(("wandb:", "\x1b"))]


def test_a_run_arrives_whole(
    wandb_server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with awaiting_uploads(30):
        logged(tmp_path)
    run = wandb_server.runs["r1"]
    assert (run.display_name, run.group, run.job_type) == ("the run", "g", "train")
    assert run.state == "finished"
    assert run.tags == ["t", "completed"]
    assert run.values["a"] == {"b": 1}
    assert run.steps() == [1, 2, 3]
    assert (run.summary["val_macro_f1"], run.summary["train_loss"]) == (1, pytest.approx(1 / 3))
    assert (run.summary["epoch"], run.summary["parameters"]) == (3, 9)
    assert [artifact.collection for artifact in run.used] == ["features-0123456789ab"]
    model = next(one for one in wandb_server.artifacts if one.kind == "model")
    assert (model.collection, model.by, model.metadata) == ("model-m", "r1", {"macro_f1": 1.0})
    assert sorted(model.aliases) == ["best", "latest"]
    assert model.files["model.safetensors"] == bytes(range(256))
    page = next(content for name, content in run.files.items() if name.endswith(".html"))
    assert page == b"<b>page</b>"
    assert not wandb_server.unknown
    assert told(capsys) == ["W&B: 1 run uploaded"]


def test_nothing_is_sent_that_was_not_asked_for(wandb_server: WandbServer, tmp_path: Path) -> None:
    with awaiting_uploads(30):
        logged(tmp_path)
    run = wandb_server.runs["r1"]
    assert set(run.files) >= {"config.yaml", "wandb-summary.json"}
    ours = {name for name in run.files if not name.startswith("media/")}
    assert ours == {"config.yaml", "wandb-summary.json"}
    assert (run.host, run.repo, run.commit, run.program) == (None, None, None, "irmas")
    sent = "\n".join(request.text for request in wandb_server.requests)
    for secret in (WANDB_KEY, f'"{socket.gethostname()}"', sys.executable, "tester@example.org"):
        assert secret not in sent
    assert not wandb_server.calls("telemetry")


def test_a_run_is_seen_while_it_grows(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "0.2")
    run = opened(tmp_path)
    run.log({"epoch": 1.0})
    run.log({"epoch": 2.0})
    wait_for(lambda: "r1" in wandb_server.runs)
    assert wandb_server.runs["r1"].state == "running"
    with awaiting_uploads(30):
        run.close()
    assert wandb_server.runs["r1"].steps() == [1, 2]


MISBEHAVIOUR = {
    "dead": (None, "its server cannot be reached"),
    "hanging": (Fault(hang=True), "the time was too short"),
    "failing": (Fault(status=500), "its server fails (500)"),
    "refusing the key": (Fault(status=401), "it refuses the key (401)"),
    "refusing access": (Fault(status=403), "it refuses access (403)"),
}


@pytest.mark.parametrize("case", MISBEHAVIOUR)
def test_a_server_that_misbehaves_delays_nothing_and_loses_nothing(
    case: str,
    wandb_server: WandbServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault, why = MISBEHAVIOUR[case]
    if fault is None:
        wandb_server.stop()
    else:
        wandb_server.faults = [fault]
    # A refusal ends the waiting, on a busy machine after more than two seconds.
    seconds = 5 if "refusing" in case else 1.8
    began = time.monotonic()
    with awaiting_uploads(seconds):
        logged(tmp_path)
        assert time.monotonic() - began < 2
    assert time.monotonic() - began < seconds + 2.2
    *_, line = told(capsys)
    assert why in line
    assert f"kept in {tmp_path / 'wandb'}; upload later: irmas review {tmp_path} --sync" in line
    if "refusing" not in case:
        assert "1 of 1 runs not uploaded" in line
        assert "the run" in line
    (file,) = unsent_files(run_files(tmp_path))
    assert RunFile(file).last_step == 5


def test_after_a_refusal_nothing_is_tried(wandb_server: WandbServer, tmp_path: Path) -> None:
    wandb_server.faults = [Fault(status=401)]
    with awaiting_uploads(10):
        opened(tmp_path).close()
    asked = wandb_server.calls()
    with awaiting_uploads(10):
        opened(tmp_path, run_id="r2").close()
    assert wandb_server.calls() == asked


def test_a_project_that_is_refused_costs_no_other(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SIDE_BY_SIDE", 1)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for number, project in enumerate(("theirs", "theirs", "ours")):
        tracking = TrackingSettings(directory=str(tmp_path), project=project)
        start_run(tracking, name="x", job_type="train", config={}, run_id=f"r{number}").close()
    wandb_server.faults = [Fault(status=403, project="theirs")]
    uploads.begin_all(run_files(tmp_path))
    problems = [upload.problem for upload in uploads.wait(30)]
    refusal = "it refuses access (403)"
    assert problems == [refusal, refusal, None]
    assert set(wandb_server.runs) == {"r2"}
    refused = [request for request in wandb_server.requests if '"theirs"' in request.text]
    assert len(refused) == 1


def test_a_server_that_fails_for_a_while_gets_everything(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    wandb_server.faults = [Fault(status=500, for_s=0.5)]
    with awaiting_uploads(30):
        logged(tmp_path)
    assert list(wandb_server.runs) == ["r1"]
    assert wandb_server.runs["r1"].steps() == [1, 2, 3]
    (file,) = run_files(tmp_path)
    assert not unsent_files([file])


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_epochs_that_the_server_refuses_are_not_uploaded_until_it_has_them(
    status: int, live: bool, wandb_server: WandbServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """wandb's service may call them sent."""
    monkeypatch.setattr("irmas_dist.tracking.unsent.SETTLED_S", 0.5)
    wandb_server.faults = [Fault(status=status, only={"file_stream"})]
    if not live:
        monkeypatch.setenv("WANDB_MODE", "offline")
    with awaiting_uploads(30):
        logged(tmp_path)
    if not live:
        uploads.begin_all(run_files(tmp_path))
        assert [each.sent for each in uploads.wait(30)] == [False]
    else:
        assert "1 of 1 runs not uploaded" in told(capsys)[-1]
    files = run_files(tmp_path)
    assert unsent_files(files) == files
    wandb_server.faults, uploads.refused = [], {}
    uploads.begin_all(files)
    assert [each.sent for each in uploads.wait(30)] == [True]
    assert wandb_server.runs["r1"].steps() == [1, 2, 3]
    assert wandb_server.runs["r1"].summary["parameters"] == 9
    assert not unsent_files(files)


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("call", ["UseArtifact", "CreateArtifact", "CreateArtifactManifest"])
def test_an_artifact_that_is_refused_costs_nothing_else_and_is_uploaded_later(
    call: str, live: bool, wandb_server: WandbServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """wandb's service calls the run uploaded."""
    wandb_server.faults = [Fault(status=403, only={call})]
    if not live:
        monkeypatch.setenv("WANDB_MODE", "offline")
    with awaiting_uploads(30):
        logged(tmp_path)
    files = run_files(tmp_path)
    if live:
        assert "its server refuses a file or an artifact of it" in told(capsys)[-1]
    else:
        uploads.begin_all(files)
        assert [each.sent for each in uploads.wait(30)] == [False]
    run = wandb_server.runs["r1"]
    assert run.steps() == [1, 2, 3]
    assert run.summary["instruments"]["nrows"] == 1
    assert any(name.endswith(".html") for name in run.files)
    assert unsent_files(files) == files
    wandb_server.faults = []
    uploads.begin_all(files)
    assert [each.sent for each in uploads.wait(30)] == [True]
    assert run.steps() == [1, 2, 3]
    assert not unsent_files(files)


@pytest.mark.parametrize("call", ["CreateRunFiles", "upload"])
def test_files_that_are_refused_are_uploaded_later(
    call: str, wandb_server: WandbServer, tmp_path: Path
) -> None:
    wandb_server.faults = [Fault(status=403, only={call})]
    with awaiting_uploads(30):
        logged(tmp_path)
    files = run_files(tmp_path)
    assert unsent_files(files) == files
    wandb_server.faults = []
    uploads.begin_all(files)
    assert [each.sent for each in uploads.wait(30)] == [True]
    assert any(name.endswith(".html") for name in wandb_server.runs["r1"].files)


def test_runs_are_uploaded_side_by_side(wandb_server: WandbServer, tmp_path: Path) -> None:
    wandb_server.faults = [Fault(delay_s=0.2)]
    began = time.monotonic()
    with awaiting_uploads(60):
        for number in range(8):
            run = opened(tmp_path, run_id=f"r{number}", name=f"run {number}")
            run.log({"epoch": 1.0})
            run.close()
    # One after the other they take eight times as long as one.
    assert time.monotonic() - began < 0.2 * wandb_server.calls() / 2
    assert {run.state for run in wandb_server.runs.values()} == {"finished"}


KILLED = """
import os, sys, time
from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking.start import start_run

tracking = TrackingSettings(directory=sys.argv[1])
run = start_run(tracking, name="the run", job_type="train", config={}, run_id="r1")
for epoch in (1.0, 2.0, 3.0):
    run.log({"epoch": epoch, "val_macro_f1": 1 / epoch})
time.sleep(float(sys.argv[2]))
os.kill(os.getpid(), 9)
"""


def killed(directory: Path, pause: float, **environment: str) -> None:
    """Log three epochs, and die."""
    variables = {name: v for name, v in os.environ.items() if name != "WANDB_SERVICE"}
    subprocess.run(
        [sys.executable, "-c", KILLED, str(directory), str(pause)],
        env=variables | environment, check=False, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_after_a_kill_each_epoch_is_there_once(
    mode: str, wandb_server: WandbServer, tmp_path: Path
) -> None:
    killed(tmp_path, 1.3, WANDB_MODE=mode, WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL="0.1")
    before = wandb_server.runs["r1"].steps() if mode == "online" else []
    assert before == [1.0, 2.0, 3.0][: len(before)]
    run = opened(tmp_path, resumed=True)
    for epoch in (1.0, 2.0, 3.0, 4.0):  # The checkpoint has them all.
        run.log({"epoch": epoch, "val_macro_f1": 1 / epoch})
    with awaiting_uploads(30):
        run.close()
    stored = wandb_server.runs["r1"]
    assert stored.steps() == [1, 2, 3, 4]
    assert stored.summary["val_macro_f1"] == 1
    assert stored.state == "finished"
    assert not unsent_files(run_files(tmp_path))
    assert not list(tmp_path.rglob(f"*{COPY_SUFFIX}*"))


def upload(problem: str | None = None, failing_for: float | None = None) -> Upload:
    since = None if failing_for is None else time.monotonic() - failing_for
    file = Path("runs/wandb/offline-run-1-a/run-a.wandb")
    return Upload(file, "a", problem, since, sending=True)


def test_nobody_waits_for_what_has_failed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for one, other, waits in ((60, 60, False), (60, None, True), (1, 60, True)):
        monkeypatch.setattr(uploads, "_begun", [upload("x", one), upload("x", other)])
        began = time.monotonic()
        uploads.wait(0.3)
        assert (time.monotonic() - began >= 0.3) == waits


def test_what_waits_for_its_turn_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = upload()
    waiting.sending = False
    monkeypatch.setattr(uploads, "_begun", [upload("x", 60), waiting])
    began = time.monotonic()
    uploads.wait(60)
    assert time.monotonic() - began < 1


def test_only_so_many_uploads_run_at_a_time(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SIDE_BY_SIDE", 2)
    monkeypatch.setattr(uploads, "_slots", None)
    wandb_server.faults = [Fault(hang=True)]
    for number in range(4):
        opened(tmp_path, run_id=f"r{number}").close()
    wait_for(lambda: wandb_server.calls() >= 2)
    time.sleep(0.3)
    assert wandb_server.calls() == 2


def test_what_another_process_uploads_is_left_to_it_and_no_later_part_precedes_it(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for epoch in (1.0, 2.0):
        run = opened(tmp_path)
        run.log({"epoch": epoch})
        run.close()
    first, second = run_files(tmp_path)
    with first.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        uploads.begin_all([first, second])
        problems = [upload.problem for upload in uploads.wait(10)]
    assert problems == ["another process uploads it"] * 2
    assert not wandb_server.runs
    uploads.begin_all([first, second])
    assert all(upload.sent for upload in uploads.wait(10))
    assert wandb_server.runs["r1"].steps() == [1, 2]


def test_what_cannot_be_begun_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise OSError("wandb's service does not start")

    monkeypatch.setattr("wandb.sdk.wandb_setup.singleton", refuse)
    with awaiting_uploads(10):
        uploads.begin(tmp_path / "wandb" / "run-1-r1" / "run-r1.wandb", "r1", "the run", live=True)
    (line,) = told(capsys)
    assert "1 of 1 runs not uploaded (wandb's service does not start): the run; kept in" in line

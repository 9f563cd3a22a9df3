"""A sweep is reviewed in optuna-dashboard; its runs are uploaded to W&B."""

import contextlib
import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

import pytest
from wandb.errors import AuthenticationError

from irmas_dist.cli.main import run
from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search import review, sweep_directory
from irmas_dist.tracking.run_file import HEADER, RunFile, run_files
from irmas_dist.tracking.start import start_run
from irmas_dist.training.model_description import write_description
from tests.browser import dom, needs_chromium
from tests.ray_cluster import free_port
from tests.reports.test_model_page import MODEL
from tests.search.conftest import sweep_record, write_sweep
from tests.wandb_server import Fault, WandbServer


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("review") / "swept")


def test_the_dashboard_shows_the_study_on_this_machine_only(swept: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="install the extra 'review'")
    with review.dashboard(swept, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        threading.Thread(target=server.handle_request).start()
        url = f"http://127.0.0.1:{server.server_port}/api/studies"
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert b'"swept"' in answer.read()


def test_an_interruption_within_a_request_ends_it(
    swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna_dashboard", reason="install the extra 'review'")

    def interrupting(_: object) -> WSGIApplication:
        def app(_: object, start_response: StartResponse) -> list[bytes]:
            os.kill(os.getpid(), signal.SIGINT)
            start_response("200 OK", [])
            return [b"answered"]

        return app

    monkeypatch.setattr("optuna_dashboard.wsgi", interrupting)
    port = free_port()
    went_on = threading.Event()

    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    def ask() -> None:
        while not answers():  # It is imported first.
            time.sleep(0.1)
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=20)
        for _ in range(100):
            if not answers():
                return
            time.sleep(0.1)
        went_on.set()
        os.kill(os.getpid(), signal.SIGINT)

    client = threading.Thread(target=ask, daemon=True)
    client.start()
    assert run(["review", str(swept), "--port", str(port)]) == 130
    client.join()
    assert not went_on.is_set()


def test_a_directory_that_does_not_exist_is_not_one_without_runs(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match="gone: no such directory"):
        review.sync(tmp_path / "gone")
    with pytest.raises(IrmasError, match="no runs in"):
        review.sync(tmp_path)


@needs_chromium
def test_the_dashboard_in_a_browser(swept: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="install the extra 'review'")
    with review.dashboard(swept, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            shown = dom(f"http://127.0.0.1:{server.server_port}/dashboard/", tmp_path)
        finally:
            server.shutdown()
    assert "swept" in shown


def test_the_dashboard_of_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match="is not a sweep"), review.dashboard(tmp_path, 0):
        pass


def test_a_sync_without_runs_or_without_a_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IrmasError, match=r"no runs in .*wandb"):
        review.sync(tmp_path)
    logged(tmp_path, "r1")
    monkeypatch.setattr("irmas_dist.search.review.connection", lambda: None)
    with pytest.raises(IrmasError, match="W&B needs an API key"):
        review.sync(tmp_path)


def logged(directory: Path, run_id: str, **options: Any) -> Path:
    """Write a run to disk, and return its file."""
    tracking = TrackingSettings(mode="offline", directory=str(directory))
    run = start_run(
        tracking, name=f"run {run_id}", job_type="train", config={}, run_id=run_id, **options
    )
    run.log({"epoch": 1.0})
    run.close()
    return run_files(directory, run_id)[0]


def left_behind(directory: Path, run_id: str, content: bytes) -> Path:
    file = directory / "wandb" / f"offline-run-20260101_000000-{run_id}" / f"run-{run_id}.wandb"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return file


def test_all_runs_of_a_sweep_are_uploaded_once(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The final training and its evaluation are too, runs of others are not."""
    monkeypatch.chdir(tmp_path)
    out = write_sweep(Path("swept"), directory="runs")
    identity = sweep_directory.read_record(out).identity
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("WANDB_MODE", "offline")
    logged(tmp_path / "runs", f"{identity}-0001")
    logged(tmp_path / "runs", "training", group="swept")
    logged(tmp_path / "runs", "training", group="swept", resumed=True)
    logged(tmp_path / "runs", "other", group="other")
    monkeypatch.chdir("elsewhere")  # A directory that was relative stays where it was.
    sent, earlier = review.sync(tmp_path / out)
    assert (sorted(sent), earlier) == ([f"run {identity}-0001", "run training"], 0)
    assert set(wandb_server.runs) == {f"{identity}-0001", "training"}
    assert review.sync(tmp_path / out) == ([], 2)
    assert wandb_server.runs["training"].steps() == [1]


def written(out: Path, identity: str, directory: Path) -> None:
    """Write the record of a sweep."""
    out.mkdir(parents=True)
    record = sweep_record({"directory": str(directory)}).model_copy(update={"identity": identity})
    sweep_directory.write_record(out, record)


def test_the_runs_of_a_sweep_are_found_where_its_project_was_moved(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("WANDB_MODE", "offline")
    identities = ("0a-0001", "0b-0001")
    for out, identity in zip(("runs/first", "second"), identities, strict=True):
        written(Path(out), identity[:2], Path.cwd() / "runs")
        logged(Path("runs"), identity)
    monkeypatch.chdir(tmp_path)
    Path("here").rename("there")
    for out, identity in zip(("runs/first", "second"), identities, strict=True):
        assert review.sync(tmp_path / "there" / out) == ([f"run {identity}"], 0)
    assert set(wandb_server.runs) == set(identities)


def test_sweeps_of_one_name_have_their_own_trials(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    tracking = TrackingSettings(mode="offline", directory=str(tmp_path))
    for identity in ("0a", "0b"):
        written(tmp_path / identity / "sweep", identity, tmp_path)
        for job_type, run_id in (("trial", f"{identity}-0001"), ("sweep", identity)):
            start_run(
                tracking, name=run_id, job_type=job_type, config={}, run_id=run_id, group="sweep"
            ).close()
    review.sync(tmp_path / "0b" / "sweep")
    assert set(wandb_server.runs) == {"0b-0001", "0b"}


def test_the_runs_of_a_model_and_of_the_models_of_an_ensemble_are_uploaded(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their directory of runs was named relative to another working directory."""
    recipe = {"tracking": {"directory": "runs"}}
    out = tmp_path / "runs" / "ensemble"
    for number in (0, 1):
        model = out / f"seed-{number}"
        model.mkdir(parents=True)
        write_description(
            str(model), MODEL.model_copy(update={"recipe": recipe, "run": f"r{number}"})
        )
        logged(tmp_path / "runs", f"r{number}")
    write_description(str(out), MODEL.model_copy(update={"recipe": recipe, "run": None}))
    monkeypatch.chdir(out)
    assert review.sync(out / "seed-1") == (["run r1"], 0)
    assert review.sync(out) == (["run r0"], 1)


def test_a_damaged_run_is_named_and_stops_no_other(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    logged(tmp_path, "r1")
    bad = left_behind(tmp_path, "r2", b"what is no run's file")
    logged(tmp_path, "r3")
    left_behind(tmp_path, "r4", HEADER)  # of a driver that was killed at once, which has no run
    with pytest.raises(IrmasError) as raised:
        review.sync(tmp_path)
    assert "1 of 3 runs not uploaded (its file is damaged)" in str(raised.value)
    assert bad.parent.name in str(raised.value)
    assert set(wandb_server.runs) == {"r1", "r3"}


def test_a_file_that_is_damaged_in_its_middle_is_sent_as_far_as_it_can_be_read_and_named(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    tracking = TrackingSettings(mode="offline", directory=str(tmp_path))
    for resumed in (False, True):
        run = start_run(
            tracking, name="run r1", job_type="train", config={}, run_id="r1", resumed=resumed
        )
        for epoch in range(1 + 200 * resumed, 201 + 200 * resumed):
            run.log({"epoch": float(epoch), "val_loss": 0.5})
        run.close()
    file, _ = run_files(tmp_path, "r1")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    last = RunFile(file).last_step
    assert 10 < last < 190
    for _ in range(2):
        with pytest.raises(IrmasError, match=r"1 of 1 runs not uploaded \(its file is damaged\)"):
            review.sync(tmp_path)
        steps = [*range(1, last + 1), *range(201, 401)]
        assert wandb_server.runs["r1"].steps() == steps


@pytest.mark.parametrize("status", [401, 500])
def test_a_sync_that_fails_says_so_and_can_be_repeated(
    status: int, wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged(tmp_path, "r1")
    wandb_server.faults = [Fault(status=status)]
    monkeypatch.setattr("irmas_dist.tracking.uploads.FAILING_S", 0.5)
    with pytest.raises(IrmasError, match=rf"1 of 1 runs not uploaded \(.*{status}\)\): run r1"):
        review.sync(tmp_path)


def test_a_run_that_went_online_and_did_not_finish_is_uploaded(
    wandb_server: WandbServer, tmp_path: Path
) -> None:
    """Such runs are W&B's own, of other programs or of earlier versions."""
    offline = logged(tmp_path, "r1")
    online = offline.parent.with_name(offline.parent.name.removeprefix("offline-"))
    offline.parent.rename(online)
    assert review.sync(tmp_path) == (["run r1"], 0)
    assert wandb_server.runs["r1"].steps() == [1]


def test_of_a_run_that_is_still_written_the_rest_is_uploaded_later(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irmas_dist.tracking.start.FLUSH_S", 0.02)
    tracking = TrackingSettings(mode="offline", directory=str(tmp_path))
    run = start_run(tracking, name="run r1", job_type="train", config={}, run_id="r1")
    (file,) = run_files(tmp_path)
    for epoch in (1, 2):
        run.log({"epoch": float(epoch)})
        while RunFile(file).last_step < epoch:
            time.sleep(0.01)
        assert review.sync(tmp_path) == (["run r1"], 0)
        assert wandb_server.runs["r1"].steps() == [1, 2][:epoch]
    run.summarise({"parameters": 9})
    run.close()
    assert review.sync(tmp_path) == (["run r1"], 0)
    stored = wandb_server.runs["r1"]
    assert (stored.steps(), stored.state, stored.summary["parameters"]) == ([1, 2], "finished", 9)
    assert review.sync(tmp_path) == ([], 1)


def test_a_key_that_cannot_be_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AuthenticationError("API key must have 40+ characters, has 3.\nAnd more.")

    logged(tmp_path, "r1")
    monkeypatch.setattr("irmas_dist.search.review.connection", refuse)
    with pytest.raises(IrmasError, match=r"key cannot be used: .* has 3\.$"):
        review.sync(tmp_path)


def test_a_sweep_logged_with_settings_of_another_version_is_refused_in_one_line(
    tmp_path: Path,
) -> None:
    out = write_sweep(tmp_path / "swept")
    record = sweep_directory.read_record(out)
    recipe = record.recipe | {"tracking": {"colour": "blue"}}
    sweep_directory.write_record(out, record.model_copy(update={"recipe": recipe}))
    with pytest.raises(
        IrmasError, match=r"recipe of sweep swept: unknown setting tracking\.colour"
    ):
        review.sync(out)

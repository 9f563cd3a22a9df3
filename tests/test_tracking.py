"""Logging never ends or delays the work that is logged."""

import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking import Run, artifact_name, start_run
from tests.ray_cluster import free_port


def settings(directory: Path, **changes: object) -> TrackingSettings:
    return TrackingSettings.model_validate(
        {"mode": "offline", "directory": str(directory), "timeout_s": 3, **changes}
    )


@pytest.mark.parametrize("run_id", [None, "known"])
def test_a_run_is_written_to_disk_when_the_server_does_not_answer(
    run_id: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}")
    asked = settings(tmp_path, mode="online")
    run = start_run(asked, name="x", job_type="train", config={}, run_id=run_id)
    run.log({"epoch": 1.0, "val_loss": 0.5})
    run.close()
    assert "W&B cannot be used online" in capsys.readouterr().err
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_nothing_is_logged_when_the_directory_cannot_be_made_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    run = start_run(settings(tmp_path / "file"), name="x", job_type="train", config={})
    run.log({"epoch": 1.0})
    run.close()
    assert run.mode == "disabled"
    assert "W&B cannot be used offline" in capsys.readouterr().err


def test_a_resumed_run_keeps_its_identity(tmp_path: Path) -> None:
    run_id = "0123abcd"
    for epoch in (1, 2):
        run = start_run(settings(tmp_path), name="x", job_type="train", config={}, run_id=run_id)
        run.log({"epoch": float(epoch), "val_loss": 1 / epoch})
        run.close(failed=epoch == 1)
    assert {path.name for path in (tmp_path / "wandb").glob("*/*.wandb")} == {f"run-{run_id}.wandb"}


class Broken:
    """A W&B run whose service is gone."""

    offline, dir, tags = True, "runs/x/files", ()
    ended = False

    def define_metric(self, *args: object, **options: object) -> None:
        """Define nothing."""

    def log(self, *args: object, **options: object) -> None:
        raise RuntimeError("mailbox closed\nand more")

    def finish(self, exit_code: int) -> None:
        self.ended = True


def test_a_run_that_fails_is_reported_once_and_raises_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = Broken()
    run = Run(broken, timeout_s=1)
    for epoch in (1.0, 2.0):
        run.log({"epoch": epoch})
    run.close()
    messages = capsys.readouterr().err
    assert messages.count("W&B failed (mailbox closed)") == messages.count("\n") == 1
    assert broken.ended


def test_an_input_that_is_never_accepted_is_not_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    online = Broken()
    online.offline, tested = False, threading.Event()
    online.use_artifact = lambda artifact: tested.wait()  # type: ignore[attr-defined]
    Run(online, timeout_s=0.1).uses("features", "dataset", {"features": "f"})
    tested.set()
    assert "W&B failed (TimeoutError)" in capsys.readouterr().err


ODD = "my sweep (2), für “Trio”/日本"


@given(st.lists(st.text(min_size=1) | st.just("x" * 200), min_size=2, max_size=2, unique=True))
def test_every_name_becomes_one_of_an_artifact_and_stays_its_own(names: list[str]) -> None:
    taken = {artifact_name(name) for name in names}
    assert len(taken) == len(names)
    for name in taken:
        assert re.fullmatch("[A-Za-z0-9_.-]{1,128}", name)


def test_what_a_run_with_an_odd_name_made_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    for name in (ODD, "x" * 250):
        run = start_run(settings(tmp_path), name=name, group=name, job_type="sweep", config={})
        run.uses(f"features-{name}", "dataset", {"features": "f"})
        run.made(f"model-{name}", "model", str(tmp_path / "model"), {})
        assert run.logging
        run.close()
    assert "W&B failed" not in capsys.readouterr().err

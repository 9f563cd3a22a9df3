"""Logging never stands in the way of the work."""

from pathlib import Path

import pytest

from irmas_dist.tracking import NullRun, TrackingSettings, new_run_id, start_run
from tests.ray_cluster import free_port


def settings(directory: Path, **changes: object) -> TrackingSettings:
    return TrackingSettings.model_validate(
        {"mode": "offline", "directory": str(directory), "timeout_s": 3, **changes}
    )


def test_a_server_that_does_not_answer_is_told_of_and_logged_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}")
    run = start_run(settings(tmp_path, mode="online"), name="x", job_type="train", config={})
    run.log({"epoch": 1.0, "val_loss": 0.5})
    run.close()
    assert "W&B cannot be used online" in capsys.readouterr().err
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_a_directory_that_cannot_be_made_is_told_of_and_nothing_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    run = start_run(settings(tmp_path / "file"), name="x", job_type="train", config={})
    assert isinstance(run, NullRun)
    assert "W&B cannot be used offline" in capsys.readouterr().err


def test_a_run_that_goes_on_keeps_its_identity(tmp_path: Path) -> None:
    run_id = new_run_id()
    for epoch in (1, 2):
        run = start_run(settings(tmp_path), name="x", job_type="train", config={}, run_id=run_id)
        run.log({"epoch": float(epoch), "val_loss": 1 / epoch})
        run.close(failed=epoch == 1)
    assert {path.name for path in (tmp_path / "wandb").glob("*/*.wandb")} == {f"run-{run_id}.wandb"}

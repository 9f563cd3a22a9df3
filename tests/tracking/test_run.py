"""Logging never ends or delays the work that is logged."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking.run import Run, artifact_name
from irmas_dist.tracking.run_file import RunFile, read_records, run_files
from irmas_dist.tracking.start import start_run


def settings(directory: Path, **changes: object) -> TrackingSettings:
    return TrackingSettings.model_validate(
        {"mode": "offline", "directory": str(directory), "timeout_s": 3, **changes}
    )


def opened(directory: Path, **options: Any) -> Run:
    given = {"name": "x", "job_type": "train", "config": {}, "run_id": "0123abcd"}
    return start_run(settings(directory), **(given | options))


class Broken:
    """A W&B run whose service is gone."""

    ended = 0
    summary: dict[str, Any]

    def __init__(self) -> None:
        self.summary, self.tags = {}, ()

    def define_metric(self, *args: object, **options: object) -> None:
        """Define nothing."""

    def log(self, *args: object, **options: object) -> None:
        raise RuntimeError("mailbox closed\nand more")

    def finish(self, exit_code: int) -> None:
        self.ended += 1
        raise RuntimeError("mailbox closed")


def test_a_call_that_fails_is_reported_once_and_the_others_are_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = Broken()
    run = Run(broken)
    for epoch in (1.0, 2.0):
        run.log({"epoch": epoch})
    run.summarise({"value": 1})
    uploaded: list[int] = []
    run.at_end = lambda: uploaded.append(1)
    run.close()
    messages = capsys.readouterr().err
    failures = ("log an epoch", "finish the run")
    assert messages == "".join(f"W&B failed to {what} (mailbox closed)\n" for what in failures)
    assert broken.summary == {"value": 1}
    assert (broken.ended, uploaded) == (1, [1])


class Ended(Broken):
    """A W&B run whose service has ended."""

    def finish(self, exit_code: int) -> None:
        raise RuntimeError("MailboxClosedError")


@pytest.mark.parametrize("later", [False, True])
def test_a_service_that_has_ended_is_forgotten_and_ends_nothing_else(
    monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    """Neither this process, nor the service of a run that was opened since."""
    codes: list[int] = []

    def teardown() -> None:
        codes.append(128)
        raise SystemExit(128)

    monkeypatch.setattr("wandb.teardown", teardown)
    run = Run(Ended())
    if later:
        monkeypatch.setattr("wandb.sdk.wandb_setup.singleton", object)
    run.close()
    assert codes == ([] if later else [128])


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
    for number, name in enumerate((ODD, "x" * 250)):
        run = opened(tmp_path, name=name, group=name, run_id=f"id{number}")
        run.uses_features({"store": name})
        run.made_model(name, str(tmp_path / "model"), {})
        run.close()
    assert "W&B failed" not in capsys.readouterr().err


def test_what_an_artifact_holds_lies_beside_its_run(tmp_path: Path) -> None:
    """So that it can be uploaded from another machine, as the run can."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    (model / "report.html").write_text("")
    run = opened(tmp_path)
    run.uses_features({"store": "0123456789abcdef"})
    run.made_model("m", str(model), {})
    run.close()
    (file,) = run_files(tmp_path)
    made = [record.artifact for record in read_records(file) if record.HasField("artifact")]
    places = {entry.path: Path(entry.local_path) for one in made for entry in one.manifest.contents}
    assert places.keys() == {"fingerprints.json", "model.json"}
    for place in places.values():
        assert place.is_relative_to(file.parent)
        assert place.is_file()


URL = "s3://KEY:geheim@bucket/x"


def test_no_text_of_a_run_has_a_password(tmp_path: Path) -> None:
    run = opened(tmp_path, name=URL, config={"a": {"b": [URL]}, "tracking": {"directory": "/home"}})
    run.configure({"a": {"c": URL}, "tracking": {"directory": "/home"}})
    run.summarise({"reason": f"cannot use {URL}"})
    run.table("table", ["reason"], [[URL]])
    run.page("page", lambda: URL)
    run.close()
    (file,) = run_files(tmp_path)
    media = [path for path in file.parent.glob("files/media/*/*") if path.is_file()]
    written = [path.read_bytes() for path in (file, *media)]
    assert [b"KEY:***@bucket" in content for content in written] == [True] * 3
    assert not [content for content in written if b"geheim" in content]
    assert "tracking" not in RunFile(file).config


def test_a_page_that_cannot_be_made_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = opened(tmp_path)
    run.page("page", lambda: str(1 / 0))
    run.close()
    assert "W&B failed to log a page (division by zero)\n" in capsys.readouterr().err


def test_the_best_value_survives_an_epoch_that_is_not_finite(tmp_path: Path) -> None:
    run = opened(tmp_path)
    for epoch, loss in enumerate((0.3, math.nan, 0.9), start=1):
        run.log({"epoch": float(epoch), "val_loss": loss, "val_macro_f1": loss})
    run.close()
    (file,) = run_files(tmp_path)
    summary = RunFile(file).summary
    assert (summary["val_loss"], summary["val_macro_f1"]) == (0.3, 0.9)

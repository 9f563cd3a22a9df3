"""Logging never ends or delays the work that is logged."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking.run import Run, artifact_name
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

    ended = False
    summary: dict[str, Any]

    def __init__(self) -> None:
        self.summary, self.tags = {}, ()

    def define_metric(self, *args: object, **options: object) -> None:
        """Define nothing."""

    def log(self, *args: object, **options: object) -> None:
        raise RuntimeError("mailbox closed\nand more")

    def finish(self, exit_code: int) -> None:
        self.ended = True


def test_a_call_that_fails_is_reported_once_and_the_others_are_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = Broken()
    run = Run(broken)
    for epoch in (1.0, 2.0):
        run.log({"epoch": epoch})
    run.summarise({"value": 1})
    run.close()
    messages = capsys.readouterr().err
    assert messages.count("W&B failed to log (mailbox closed)") == messages.count("\n") == 1
    assert broken.summary == {"value": 1}
    assert broken.ended


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

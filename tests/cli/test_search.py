"""Options of a search take descriptions, defaults and bounds from the settings."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from irmas_dist.cli.main import app, run
from irmas_dist.config.base import Settings
from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.config.sweep import SweepSettings
from tests.cli.conftest import Ended


def options(command: str) -> dict[str, Any]:
    return {option.name: option for option in get_command(app).commands[command].params}


@pytest.mark.parametrize(
    ("command", "settings"), [("sweep", SweepSettings), ("thresholds", ThresholdSettings)]
)
def test_help_has_the_description_and_the_default_of_a_setting(
    command: str, settings: type[Settings]
) -> None:
    found = options(command)
    for name, field in settings.model_fields.items():
        if name not in found:  # only recipes set it
            continue
        text = found[name].help
        assert text.startswith(" ".join(field.description.split()).replace("``", ""))
        assert field.default is None or text.endswith(f"Default: {field.default}.")


def test_every_setting_of_a_sweep_is_an_option() -> None:
    assert options("sweep").keys() >= SweepSettings.model_fields.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "features", "out", "--trials", "0"], "--trials 0: should be greater"),
        (["sweep", "features", "out", "--cpus", "0"], "--cpus 0.0: should be greater"),
        (["thresholds", "model", "--cost-of-missing", "0"], "--cost-of-missing 0.0: should be"),
    ],
)
def test_values_out_of_range_are_refused_by_the_settings(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("IRMAS_LOG_DIR", str(tmp_path))
    assert run(arguments) == 1
    assert message in capfd.readouterr().err


def test_an_interrupted_sweep_shows_the_command_that_resumes_it(
    irmas: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("irmas_dist.training.data.open_training_data", lambda *_: None)
    monkeypatch.setattr("irmas_dist.search.sweep.sweep", interrupt)
    given = ["my features", "it's mine", "--also", "a:b;c", "--validate-on", "$x"]
    given += ["--address", "10.0.0.1:6379"]
    ended = irmas("sweep", *given)
    assert ended.code == 130
    shown = " ".join(ended.err.split()).partition("resume it: ")[2].partition(" irmas: ")[0]
    assert shlex.split(shown) == ["irmas", "sweep", *given[:2], "--resume", *given[2:]]

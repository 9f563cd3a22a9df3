"""Options of a search take descriptions, defaults and bounds from the settings."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from typer.main import get_command

from irmas_dist.cli.main import app, run
from irmas_dist.config.base import Settings
from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.sweep_directory import make_record, write_record
from tests.cli.conftest import Ended
from tests.records import DATA


def options(command: str) -> dict[str, Any]:
    return {option.name: option for option in get_command(app).commands[command].params}


@pytest.mark.parametrize(
    ("command", "settings", "default"),
    [("sweep", SweepSettings, None), ("thresholds", ThresholdSettings, "the recipe's")],
)
def test_help_has_the_description_and_the_default_of_a_setting(
    command: str, settings: type[Settings], default: str | None
) -> None:
    found = options(command)
    for name, field in settings.model_fields.items():
        if name not in found:  # only recipes set it
            continue
        assert found[name].help == " ".join(field.description.split()).replace("``", "")
        assert field.default is None or found[name].show_default == (default or str(field.default))


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
    assert run(arguments) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        ("review sweep --json", "--json goes with --sync"),
        ("report sweep --scores a.parquet", "is a sweep: --scores and --tree go with a model"),
        ("report sweep --tree tree", "is a sweep: --scores and --tree go with a model"),
    ],
)
def test_options_that_a_sweep_has_no_use_for_are_refused(
    irmas: Callable[..., Ended], tmp_path: Path, command: str, refusal: str
) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    ended = irmas(*command.split())
    assert refusal in ended.refusal(2)


def test_the_same_command_resumes_an_interrupted_sweep(
    irmas: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So do schedulers of clusters, which start a lost job again as it was."""
    resumed, warm_starts = [], []

    def interrupt(
        data: Any, recipe: Any, space: Any, out: Path, settings: Any, resume: bool, *_: object
    ) -> None:
        resumed.append(resume)
        warm_starts.append(settings.warm_start)
        write_record(out, make_record(out, recipe, space, settings, DATA, resume))
        raise KeyboardInterrupt

    importlib.import_module(
        "irmas_dist.training.train"
    )  # It would keep what replaces the function.
    for read in ("open_training_data", "read_matching_infos"):
        monkeypatch.setattr(f"irmas_dist.training.load.{read}", lambda *_: None)
    monkeypatch.setattr("irmas_dist.search.sweep.sweep", interrupt)
    begin = ["sweep", "features", "swept", "--config", "demo", "--trials", "4", "--study", "a.db"]
    for _ in range(3):
        ended = irmas(*begin)
        assert ended.code == 130
        assert "irmas: interrupted; the same command resumes" in ended.err.splitlines()[-1]
    assert resumed == [False, True, True]
    for other, what in (
        (("--set", "seed=1"), "seed=0 rather than 1: resume it"),
        (
            ("--space", "full", "--trials", "5"),
            "another space, --trials 4 rather than 5: resume it",
        ),
    ):
        assert what in " ".join(irmas(*begin, *other).err.split())
    assert len(resumed) == 3
    warm_starts.clear()
    study = optuna.create_study(storage="sqlite:///earlier.db", study_name="earlier")
    lr = optuna.distributions.FloatDistribution(1e-3, 1e-2, log=True)
    study.add_trial(optuna.create_trial(
        value=0.5, params={"training.lr": 2e-3}, distributions={"training.lr": lr}
    ))  # fmt: skip
    warm = [*begin, "--warm-start", "earlier.db"]
    warm[2] = "warm"
    assert irmas(*warm).code == 130
    Path("earlier.db").unlink()  # Its points are in the sweep's own study.
    for _ in range(2):
        assert irmas(*warm).code == 130
    assert warm_starts == ["earlier.db", None, None]
    irmas("sweep", "features", "swept", "--resume", "--trials", "5")
    assert "--trials 5 rather than 4" in " ".join(irmas(*begin).err.split())


def test_thresholds_are_fitted_as_the_recipe_says_where_options_do_not(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IRMAS_LOG_DIR", str(tmp_path))
    asked: list[ThresholdSettings] = []

    def search(model: str, settings: ThresholdSettings, features: str | None) -> None:
        asked.append(settings)
        raise IrmasError("asked")

    monkeypatch.setattr("irmas_dist.inference.thresholds.search_decisions", search)
    model = str(models / "good")
    assert run(["thresholds", model]) == run(["thresholds", model, "--evidence", "0.9"]) == 1
    assert run(["thresholds", model, "--cost-of-missing", "2"]) == 2
    of_recipe = ThresholdSettings(rule="global")
    assert asked == [of_recipe, of_recipe.model_copy(update={"evidence": 0.9})]


def test_a_place_that_cannot_be_a_sweep_s_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IRMAS_LOG_DIR", str(tmp_path))
    monkeypatch.setattr(
        "irmas_dist.search.checks.check_settings", lambda *_: pytest.fail("checked late")
    )
    (tmp_path / "file").touch()
    assert run(["sweep", "features", str(tmp_path / "file")]) == 1
    assert "file is a file: name a directory" in capfd.readouterr().err
    (tmp_path / "model.json").touch()
    assert run(["sweep", "features", str(tmp_path)]) == 1
    assert "name another directory" in capfd.readouterr().err
    missing = str(tmp_path / "features")
    assert run(["sweep", missing, str(tmp_path / "swept")]) == 1
    assert f"{missing} is not a finished feature store" in capfd.readouterr().err

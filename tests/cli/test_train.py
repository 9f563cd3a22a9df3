"""``irmas train``: what it refuses before Ray starts, and what it shows."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from irmas_dist.cli.train import show_training
from tests.cli.conftest import Ended


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ("--cpus 0", "--cpus 0.0: should be greater than 0"),
        ("--cpus nan", "--cpus nan: should be a finite number"),
        ("--set seed=-1", "--set: seed=-1: should be greater than or equal to 0"),
        ("--set augment.mix.counts=[.inf]", "--set: augment.mix.counts.0=inf: should be a finite"),
        ("--set training.lr=.nan", "--set: training.lr=nan: should be "),
    ],
)
def test_a_value_that_cannot_be_is_refused_at_once(
    irmas: Callable[..., Ended], options: str, refusal: str
) -> None:
    assert irmas("train", "features", "model", *options.split()).refusal(2).startswith(refusal)


@pytest.mark.parametrize("option", ["--workers 0", "--min-workers 0", "--retries -1", "--wait -1"])
def test_a_number_below_its_least_is_wrong_usage(irmas: Callable[..., Ended], option: str) -> None:
    ended = irmas("train", "features", "model", *option.split())
    assert ended.code == 2
    assert f"Invalid value for '{option.split()[0]}'" in ended.err


@pytest.mark.usefixtures("no_ray")
def test_a_dry_run_reads_no_features_and_writes_no_model(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = irmas("train", "missing", "model", "--dry-run", "--json", "--set", "training.epochs=3")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["recipe"]["training"]["epochs"] == 3
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_training_says_how_it_goes_on(
    irmas: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    interruption: type[BaseException],
) -> None:
    def interrupted(*_: object) -> None:
        raise interruption

    monkeypatch.setattr("irmas_dist.training.train.train", interrupted)
    ended = irmas("train", "features", "model")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.startswith("irmas: interrupted; the same command resumes")


DESCRIPTION = SimpleNamespace(
    history=[{"epoch": 1}, {"epoch": 2}, {"epoch": 3}],
    best_epoch=2,
    parameters=12_345,
    scores={"val_micro_f1": 0.625, "val_macro_f1": 0.5},
)


def test_a_trained_model_is_shown_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_training(DESCRIPTION, "models/[a]", json_output=False)
    assert " ".join(capsys.readouterr().out.split()) == (
        "best epoch 2 of 3: validation micro F1 0.625, macro F1 0.500; "
        "12,345 parameters in models/[a]"
    )


def test_a_trained_model_is_one_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    show_training(DESCRIPTION, "model", json_output=True)
    assert json.loads(capsys.readouterr().out) == {
        "path": "model",
        "parameters": 12_345,
        "epochs": 3,
        "best_epoch": 2,
        "validation": {"val_micro_f1": 0.625, "val_macro_f1": 0.5},
    }

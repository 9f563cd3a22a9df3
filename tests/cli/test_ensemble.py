"""``irmas ensemble``: what it shows, and what it refuses."""

import json
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from irmas_dist.cli.ensemble import show_ensemble
from tests.cli.conftest import Ended

MEMBER = SimpleNamespace(calibration={"scale": 0.5, "offset": -1.0}, scores={"val_macro_f1": 0.4})
DESCRIPTION = SimpleNamespace(
    members=(MEMBER, MEMBER),
    parameters=24_690,
    thresholds={"pia": 0.25},
    thresholds_from="40 mixtures of held-out training clips (global, for macro F1)",
    scores={"val_micro_f1": 0.625, "val_macro_f1": 0.5},
)


def test_an_ensemble_is_shown_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_ensemble(DESCRIPTION, "models/[a]", json_output=False)
    assert " ".join(capsys.readouterr().out.split()) == (
        "2 models: in validation micro F1 0.625, macro F1 0.500; thresholds: 40 mixtures "
        "of held-out training clips (global, for macro F1); 24,690 parameters in models/[a]"
    )


def test_an_ensemble_is_one_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    show_ensemble(DESCRIPTION, "model", json_output=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["members"][0] == {
        "calibration": {"scale": 0.5, "offset": -1.0}, "validation": {"val_macro_f1": 0.4},
    }  # fmt: skip
    assert shown["thresholds"] == {"pia": 0.25}


def test_one_model_is_no_ensemble(irmas: Callable[..., Ended]) -> None:
    assert irmas("ensemble", "model", "out").refusal().startswith("model is not a model directory")
    assert irmas("ensemble", "out").code == 2

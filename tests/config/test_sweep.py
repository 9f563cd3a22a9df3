"""Trials that have two objectives are compared by no scheduler, unless one is asked for."""

from typing import Any

import pytest
from pydantic import ValidationError

from irmas_dist.config.sweep import SweepSettings


@pytest.mark.parametrize(
    ("given", "scheduler"),
    [
        ({}, "asha"),
        ({"against": None}, "asha"),
        ({"against": "parameters"}, "none"),
        ({"against": "latency"}, "none"),
        # To be refused by name, see `search.checks`.
        ({"against": "parameters", "scheduler": "asha"}, "asha"),
        ({"scheduler": "pbt"}, "pbt"),
    ],
)
def test_a_second_objective_changes_the_default_scheduler_only(
    given: dict[str, Any], scheduler: str
) -> None:
    before = dict(given)
    settings = SweepSettings.model_validate(given)
    assert settings.scheduler == scheduler
    assert settings.against == given.get("against")
    assert given == before


def test_no_other_second_objective_is_known() -> None:
    with pytest.raises(ValidationError, match="'parameters' or 'latency'"):
        SweepSettings.model_validate({"against": "epochs"})


def test_a_gpu_is_shared_or_several_are_whole() -> None:
    for gpus in (None, 0.0, 0.25, 1.0, 2.0):
        assert SweepSettings(gpus=gpus).gpus == gpus
    for gpus in (1.25, 1.5, 2.5):
        with pytest.raises(ValidationError, match="several GPUs should be a whole number"):
            SweepSettings(gpus=gpus)

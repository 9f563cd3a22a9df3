"""A sweep that cannot run is refused before it writes anything."""

import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.checks import check_settings
from irmas_dist.search.space import Space


def test_no_scheduler_compares_trials_by_two_objectives(space: Space) -> None:
    assert SweepSettings().scheduler == "asha"
    assert SweepSettings(against="parameters").scheduler == "none"
    asked = SweepSettings(against="parameters", scheduler="asha")
    with pytest.raises(IrmasError, match="--scheduler asha compares by one objective; use none"):
        check_settings(asked, space, Recipe())

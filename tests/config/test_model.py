"""Settings of the network, and the refusals."""

import pytest
from pydantic import ValidationError

from irmas_dist.config.model import ModelSettings
from irmas_dist.config.recipe import load_recipe
from irmas_dist.errors import IrmasError


def test_one_number_is_both_sides() -> None:
    settings = ModelSettings.model_validate({"kernel": 5, "pool": [4, 1]})
    assert (settings.kernel, settings.pool) == ((5, 5), (4, 1))


def test_channels_double_from_block_to_block_unless_given() -> None:
    assert ModelSettings(blocks=3, width=8).widths == (8, 16, 32)
    assert ModelSettings(blocks=2, channels=(5, 7)).widths == (5, 7)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.channels=[8, 16]", "model: channels has 2 entries and blocks is 4; give the"),
        ("model.channels=[]", "model: channels has 0 entries and blocks is 4"),
        ("model.pool=wide", "model.pool='wide': should be a whole number, or two of them"),
        ("model.pool=[2, 2, 2]", "model.pool=[2, 2, 2]: should be a whole number, or two of"),
        ("model.pool=true", "model.pool=True: should be a whole number, or two of them"),
        ("model.kernel=4", "model: kernel=[4, 4] has an even side and cannot keep the size of a"),
        ("model.kernel=[3, 0]", "model.kernel.1=0: should be greater than or equal to 1"),
    ],
)
def test_invalid_settings_are_refused_by_name(setting: str, message: str) -> None:
    with pytest.raises(IrmasError) as refusal:
        load_recipe(None, [setting])
    assert str(refusal.value).startswith(f"--set: {message}")


def test_a_residual_block_cannot_change_the_size_of_its_maps() -> None:
    with pytest.raises(ValidationError, match="padding must be null, not 2"):
        ModelSettings(residual=True, padding=2)

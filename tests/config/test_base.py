"""Settings refuse what they do not know, never change, and say what is wrong with a value."""

from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field, ValidationError, field_validator, model_validator

from irmas_dist.config.base import Settings, describe_error, differences, from_options
from irmas_dist.errors import IrmasError


class Oven(Settings):
    """Settings of an oven."""

    heat_c: float = Field(180.0, gt=0.0)
    """Temperature of the air."""
    mode: Literal["fan", "grill"] = "fan"
    trays: tuple[int, ...] = Field((1,), min_length=1)
    lit: bool = True
    shelves: int | None = None
    cost: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)
    label: str | int = ""

    @field_validator("trays")
    @classmethod
    def _fit(cls, trays: tuple[int, ...]) -> tuple[int, ...]:
        if max(trays) > 4:
            raise ValueError("there are 4 rails")
        return trays


class Burnt(Settings):
    minutes: int = Field(0, ge=1)


def test_a_value_never_changes() -> None:
    oven = Oven()
    with pytest.raises(ValidationError, match="frozen"):
        oven.heat_c = 200.0  # type: ignore[misc]
    assert oven.heat_c == 180


@pytest.mark.parametrize("wrong", [{"heat": 200.0}, {"heat_c": "hot"}, {"trays": 1}])
def test_unknown_keys_and_wrong_types_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Oven.model_validate(wrong)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_is_finite(value: Any) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Oven(heat_c=value)


def test_a_default_is_checked_like_any_value() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Burnt()


def test_the_docstring_below_a_field_is_its_description() -> None:
    assert Oven.model_fields["heat_c"].description == "Temperature of the air."


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("heat_c", 0, "should be greater than 0"),
        ("heat_c", "hot", "should be a valid number"),
        ("heat_c", "180", "should be a valid number"),
        ("heat_c", [1.0], "should be a valid number"),
        ("heat_c", True, "should be a valid number"),
        ("trays", [True], "should be a valid number"),
        ("trays", [2, "3"], "should be a valid number"),
        ("lit", 1, "should be true or false"),
        ("lit", "yes", "should be true or false"),
        ("shelves", 1.5, "should be a valid integer, got a number with a fractional part"),
        ("shelves", True, "should be a valid number"),
        ("cost", {"gas": False}, "should be a valid number"),
        ("mode", "steam", "should be 'fan' or 'grill'"),
        ("trays", 1, "should be a list"),
        ("trays", [], "should have 1 or more items"),
        ("trays", [5], "there are 4 rails"),
    ],
)
def test_an_error_is_described_in_words_that_fit_behind_the_value(
    field: str, value: Any, words: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Oven.model_validate({field: value})
    assert describe_error(refused.value.errors()[0]) == words


def test_values_of_the_right_type_stay_as_they_are() -> None:
    assert Oven(heat_c=np.float64(200), trays=(np.int64(2),)) == Oven(heat_c=200.0, trays=(2,))
    given = {"heat_c": 200, "trays": [1, 2], "lit": False, "shelves": 3, "cost": {"gas": 1},
             "extra": {"a": True, "b": "1"}, "label": "7"}  # fmt: skip
    assert Oven.model_validate(given).model_dump(mode="json") == Oven().model_dump() | given


class Kitchen(Settings):
    ovens: int = 1
    plugs: int = 1

    @model_validator(mode="after")
    def _go_together(self) -> "Kitchen":
        if self.ovens > self.plugs:
            raise ValueError(f"{self.ovens} ovens have {self.plugs} plugs")
        return self


def test_options_that_do_not_go_together_are_named_by_their_error() -> None:
    with pytest.raises(IrmasError) as refused:
        from_options(Kitchen, {}, ovens=2)
    assert str(refused.value) == "2 ovens have 1 plugs"


def test_options_become_settings() -> None:
    assert from_options(Oven, {}, heat_c=200.0, mode="grill") == Oven(heat_c=200.0, mode="grill")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({}, "--heat-c -1.0: should be greater than 0"),
        ({"heat_c": "--heat"}, "--heat -1.0: should be greater than 0"),
        ({"mode": "--how"}, "--heat-c -1.0: should be greater than 0"),
    ],
)
def test_an_option_is_refused_by_its_own_name(names: dict[str, str], message: str) -> None:
    with pytest.raises(IrmasError) as refused:
        from_options(Oven, names, heat_c=-1.0)
    assert str(refused.value) == message


def test_settings_that_differ_are_named_with_both_values() -> None:
    class Some(Settings):
        bands: int = 64
        rule: str = "mean"
        sides: tuple[int, int] = (3, 3)

    assert differences(Some(), Some()) == ""
    other = Some(bands=96, sides=(3, 5))
    assert differences(other, Some()) == "bands=96 rather than 64, sides=(3, 5) rather than (3, 3)"

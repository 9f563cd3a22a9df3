"""Settings refuse what they do not know, never change, and say what is wrong with a value."""

from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from irmas_dist.config.base import Settings, describe_error, from_options
from irmas_dist.errors import IrmasError


class Oven(Settings):
    """Settings of an oven."""

    heat_c: float = Field(180.0, gt=0.0)
    """Temperature of the air."""
    mode: Literal["fan", "grill"] = "fan"
    trays: tuple[int, ...] = Field((1,), min_length=1)

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


@pytest.mark.parametrize("value", ["nan", "inf", float("nan"), float("inf")])
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
        ("heat_c", "hot", "should be a valid number, unable to parse string as a number"),
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

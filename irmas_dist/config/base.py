"""The base of every settings model: strict, frozen, and documented field by field."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from irmas_dist.errors import IrmasError


class Settings(BaseModel):
    """Settings of one subject; unknown keys and wrong types are refused, values never change.

    The docstring below a field is its description, in ``--help`` and in JSON schemas alike.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=False,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


S = TypeVar("S", bound=Settings)


def from_options(settings: type[S], options: Mapping[str, str], **values: Any) -> S:
    """Build settings from options of the command line.

    Args:
        settings: What to build.
        options: Names of options by field, where they differ from ``--field-name``.
        values: Values by field.

    Raises:
        IrmasError: An option has a value that the settings refuse.
    """
    try:
        return settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        option = options.get(field, f"--{field.replace('_', '-')}")
        raise IrmasError(f"{option} {first['input']}: {describe_error(first)}") from error


def describe_error(error: ErrorDetails) -> str:
    """Return what pydantic found wrong with a value, in words that fit behind it."""
    match error["type"]:
        case "tuple_type":
            return "should be a list"
        case "too_short":
            return f"should have {error['ctx']['min_length']} or more items"
        case "value_error":
            return str(error["ctx"]["error"])
        case _:
            message = error["msg"].removeprefix("Input ")
            return message[0].lower() + message[1:]

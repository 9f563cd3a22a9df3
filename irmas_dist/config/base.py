"""The base of every settings model: strict, frozen, and documented field by field."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, LiteralString, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from irmas_dist.errors import UsageError

OBJECT_STORES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")
"""Schemes of the URLs of object stores."""

Loc = tuple[int | str, ...]
"""Place of a value in nested settings."""


class Settings(BaseModel):
    """Settings of one subject; unknown keys and wrong types are refused, values never change.

    The docstring below a field is its description, in ``--help`` and in JSON schemas alike.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        # Strict would refuse lists for tuples too, and nested settings that are not objects yet.
        strict=False,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _are_not_converted(cls, given: Any) -> Any:
        """Refuse true where a number belongs, 1 for true, and text for either."""
        errors = [
            InitErrorDetails(type=PydanticCustomError("converted", wanted), loc=loc, input=value)
            for name, value in (given.items() if isinstance(given, dict) else ())
            if (field := cls.model_fields.get(name))
            # One that converts by itself says what it takes.
            and not any(isinstance(each, BeforeValidator) for each in field.metadata)
            for loc, value, wanted in _convertible(set(_types(field.annotation)), (name,), value)
        ]
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return given


def _convertible(types: set[Any], loc: Loc, value: Any) -> Iterator[tuple[Loc, Any, LiteralString]]:
    """Yield the values that pydantic would convert into a number or a boolean: place, value, why.

    Args:
        types: Those of the field.
        loc: Its place, as in errors.
        value: Its value; lists and mappings are looked through.
    """
    numbers = types & {int, float}
    if types & {str, Any} or not (numbers or bool in types):
        return
    if isinstance(value, Mapping | list | tuple):
        inner = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in inner:
            yield from _convertible(types, (*loc, key), item)
    elif (
        isinstance(value, str)
        or (isinstance(value, bool) and bool not in types)
        or (isinstance(value, int | float) and not isinstance(value, bool) and not numbers)
    ):
        yield loc, value, "should be a valid number" if numbers else "should be true or false"


def _types(annotation: Any) -> Iterator[Any]:
    """Yield the types of the values in a field; choices count as text."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield str
    elif origin is Annotated:
        yield from _types(arguments[0])
    elif origin is dict:
        yield from _types(arguments[1])
    elif arguments:
        for argument in arguments:
            yield from _types(argument)
    else:
        yield annotation


S = TypeVar("S", bound=Settings)


def from_options(settings: type[S], options: Mapping[str, str], **values: Any) -> S:
    """Build settings from options of the command line.

    Args:
        settings: What to build.
        options: Names of options by field, where they differ from ``--field-name``.
        values: Values by field.

    Raises:
        UsageError: An option has a value that the settings refuse.
    """
    try:
        return settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # Several settings do not go together; the message names them.
            raise UsageError(describe_error(first)) from error
        field = str(first["loc"][0])
        option = options.get(field, f"--{field.replace('_', '-')}")
        raise UsageError(f"{option} {first['input']}: {describe_error(first)}") from error


def require_whole_gpus(gpus: float | None) -> float | None:
    """Return a number of GPUs.

    Raises:
        ValueError: It is more than one and not whole, which Ray does not share.
    """
    if gpus is not None and gpus > 1 and gpus % 1:
        raise ValueError("several GPUs should be a whole number")
    return gpus


def differences(found: Settings, wanted: Settings) -> str:
    """Return the settings that differ, as ``bands=96 rather than 64``; empty if none does."""
    return ", ".join(nested_differences(found.model_dump(), wanted.model_dump()))


def nested_differences(
    found: dict[str, Any], wanted: dict[str, Any], within: str = ""
) -> list[str]:
    """Return each value that differs in nested settings, as ``training.epochs=3 rather than 4``."""
    differ = []
    for name in {**found, **wanted}:
        ours, theirs = found.get(name), wanted.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            differ += nested_differences(ours, theirs, f"{within}{name}.")
        elif ours != theirs:
            differ.append(f"{within}{name}={ours} rather than {theirs}")
    return differ


def first_problem(error: ValidationError) -> str:
    """Return the first thing that pydantic found wrong, behind the name of its field."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {describe_error(first)}"


def describe_error(error: ErrorDetails) -> str:
    """Return what pydantic found wrong with a value, in words that fit behind it."""
    match error["type"]:
        case "tuple_type":
            return "should be a list"
        case "dict_type":
            return "should be a mapping of names to values: {name: value}"
        case "too_short":
            return f"should have {error['ctx']['min_length']} or more items"
        case "value_error":
            return str(error["ctx"]["error"])
        case _:
            message = error["msg"].removeprefix("Input ")
            return message[0].lower() + message[1:]

"""Entries of a search space: the range or the choices of one setting, as in YAML.

Optuna stores strings and numbers only, so a choice that is a list or null is stored as JSON;
``restored`` returns the choice itself.
"""

import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

import optuna
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from irmas_dist.config.base import Settings, describe_error
from irmas_dist.errors import IrmasError

Scalar = bool | int | float | str | None
Value = Scalar | tuple[Scalar, ...]


class _Entry(Settings):
    when: dict[str, Value | list[Value]] = Field({})
    """Searched only while each of these other entries has this value, or one of these."""

    @field_validator("when")
    @classmethod
    def _not_without_values(
        cls, when: dict[str, Value | list[Value]]
    ) -> dict[str, Value | list[Value]]:
        for name, wanted in when.items():
            if wanted in ([], ()):
                raise ValueError(f"{name} needs a value, or a list of one or more")
        return when

    def holds(self, drawn: Mapping[str, Any]) -> bool:
        """Return whether the values drawn before meet the conditions."""
        return all(
            name in drawn and drawn[name] in alternatives(wanted)
            for name, wanted in self.when.items()
        )

    def restored(self, stored: Any) -> Any:
        """Return the value that Optuna stored like this; one that it cannot have as it is."""
        return stored


class _Range(_Entry):
    low: float
    high: float
    step: float | None = Field(None, gt=0)
    log: bool = False
    """Whether the scale is logarithmic."""

    @model_validator(mode="after")
    def _not_empty(self) -> "_Range":
        low, high = self.low, self.high
        if not low < high:
            raise ValueError(f"low {low:g} must be below high {high:g}")
        if self.log and low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {low:g}")
        if self.log and self.step:
            raise ValueError("a logarithmic scale has no step")
        if self.step:
            steps = (high - low) / self.step
            if not math.isclose(steps, round(steps)):
                last = low + math.floor(steps) * self.step
                raise ValueError(f"steps of {self.step:g} end at {last:g}, not at high {high:g}")
        return self

    def samples(self) -> list[Any]:
        """Return values that a valid recipe must accept: both ends."""
        return [self.low, self.high]

    def contains(self, value: Any) -> bool:
        """Return whether the entry can have this value."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class FloatEntry(_Range):
    """A number from ``low`` to ``high``, in steps if there is a step."""

    type: Literal["float"]

    def suggest(self, name: str, trial: optuna.Trial) -> float:
        """Draw a value for a trial."""
        drawn = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return self.nearest(drawn)

    def restored(self, stored: Any) -> Any:
        """Return the value that Optuna stored like this; one that it cannot have as it is."""
        return self.nearest(stored) if self.contains(stored) else stored

    def nearest(self, value: float) -> float:
        """Return the possible value closest to another."""
        if self.step:
            # In decimals: 3 * 0.1 is not 0.3, and a condition or a grid would miss it.
            steps = round((value - self.low) / self.step)
            value = float(Decimal(repr(self.low)) + steps * Decimal(repr(self.step)))
        return min(max(value, self.low), self.high)

    def grid(self) -> Iterator[float] | None:
        """Return all values, or None for a range without steps."""
        if (step := self.step) is None:
            return None
        count = round((self.high - self.low) / step) + 1
        return (self.nearest(self.low + i * step) for i in range(count))

    def contains(self, value: Any) -> bool:
        """Return whether the entry can have this value."""
        within = super().contains(value)
        # Optuna's sums of steps are a little beside them.
        return within and math.isclose(value, self.nearest(value), abs_tol=1e-6 * (self.step or 0))

    def samples(self) -> list[Any]:
        """Return values that a valid recipe must accept: both ends and one between them."""
        # Whole ends would hide that a setting takes whole numbers only.
        inner = self.low + (self.step or (self.high - self.low) * 0.3819)
        return [*super().samples(), self.nearest(inner)]


class IntEntry(_Range):
    """A whole number from ``low`` to ``high``, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int | None = Field(None, ge=1)

    def suggest(self, name: str, trial: optuna.Trial) -> int:
        """Draw a value for a trial."""
        return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)

    def grid(self) -> Iterator[int]:
        """Return all values."""
        return iter(range(self.low, self.high + 1, self.step or 1))

    def contains(self, value: Any) -> bool:
        """Return whether the entry can have this value."""
        return super().contains(value) and (value - self.low) % (self.step or 1) == 0


class CategoricalEntry(_Entry):
    """One of several values."""

    type: Literal["categorical"]
    choices: tuple[Value, ...] = Field(min_length=1)

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: tuple[Value, ...]) -> tuple[Value, ...]:
        stored = [stored_form(choice) for choice in choices]
        for choice in stored:
            if stored.count(choice) > 1:
                raise ValueError(f"{choice!r} is given twice")
        return choices

    def suggest(self, name: str, trial: optuna.Trial) -> Value:
        """Draw a value for a trial."""
        chosen = trial.suggest_categorical(name, [stored_form(choice) for choice in self.choices])
        return self.restored(chosen)

    def restored(self, stored: Any) -> Any:
        """Return the choice that Optuna stored like this; one that it cannot have as it is."""
        return next((choice for choice in self.choices if stored_form(choice) == stored), stored)

    def samples(self) -> list[Any]:
        """Return values that a valid recipe must accept: all of them."""
        return list(self.choices)

    def grid(self) -> Iterator[Any]:
        """Return all values."""
        return iter(self.choices)

    def contains(self, value: Any) -> bool:
        """Return whether the entry can have this value."""
        return value in self.choices


Entry = Annotated[FloatEntry | IntEntry | CategoricalEntry, Field(discriminator="type")]
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


def read_entry(name: str, content: Any, origin: str) -> Entry:
    """Check an entry by itself.

    Args:
        name: Its setting, for errors.
        content: The entry as in YAML.
        origin: Where it comes from, for errors.

    Raises:
        IrmasError: An unknown key, a wrong type, or an empty range.
    """
    try:
        return _ENTRY.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f" {part}" for part in first["loc"][1:2])
        raise IrmasError(f"{origin}: {name}{field}: {_what_is_wrong(name, first)}") from error


def _what_is_wrong(name: str, error: ErrorDetails) -> str:
    """Return what is wrong with an entry, and what to write."""
    kind, place, given = error["type"], error["loc"][1:], error["input"]
    if kind == "model_attributes_type":
        return "write {type: float, low: …, high: …}, or {type: categorical, choices: […]}"
    if kind == "union_tag_not_found":
        inner = next((key for key, value in given.items() if isinstance(value, dict)), None)
        if inner is not None:
            return f"write the whole name of a setting: {name}.{inner}: {{type: …}}"
        return "it needs a type: float, int or categorical"
    if kind == "union_tag_invalid":
        return f"type {given['type']!r} is none of 'float', 'int' and 'categorical'"
    if place == ("when",) and kind == "dict_type":
        return "write {OTHER: VALUE}, the name of another entry and its value"
    if place[:1] in (("choices",), ("when",)) and len(place) > 2:
        return "a value is text, a finite number, true, false or null, or a list of such"
    return describe_error(error)


def alternatives(wanted: Value | list[Value]) -> list[Value]:
    """Return the values that a condition allows."""
    return wanted if isinstance(wanted, list) else [wanted]


def stored_form(value: Value) -> bool | int | float | str:
    """Return a choice as Optuna can store it."""
    if value is None or isinstance(value, tuple):
        return json.dumps(value)
    return value


def as_choice(value: Any) -> Any:
    """Return a value as an entry holds it, after a round trip through JSON too."""
    return tuple(value) if isinstance(value, list) else value


def short(value: Any) -> str:
    """Return a value in few characters: three digits, and all digits of a whole number."""
    if isinstance(value, float):
        return f"{value:.0f}" if 1_000 <= abs(value) < 1e9 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(short(item) for item in value) + "]"
    return "none" if value is None else str(value)

"""A search space: YAML to an Optuna define-by-run function, checked before a sweep starts.

An entry names a setting of the recipe and its range or choices:

    training.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
    model.head: {type: categorical, choices: [flatten, max]}
    model.dense: {type: int, low: 64, high: 512, step: 64, when: {model.head: flatten}}

Optuna stores strings and numbers only, so a choice that is a list or null is stored as JSON;
`Space.values` restores the values of the recipe.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from irmas_dist.config.base import Settings
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.shipped import find_config
from irmas_dist.config.yaml_files import YamlFile, read_yaml
from irmas_dist.errors import IrmasError

Scalar = bool | int | float | str | None
Value = Scalar | tuple[Scalar, ...]


class _Entry(Settings):
    when: dict[str, Value | list[Value]] = Field({})
    """Searched only while each of these other entries has this value, or one of these."""

    def holds(self, drawn: Mapping[str, Any]) -> bool:
        """Return whether the values drawn before meet the conditions."""
        return all(
            name in drawn and drawn[name] in alternatives(wanted)
            for name, wanted in self.when.items()
        )


class _Range(_Entry):
    low: float
    high: float
    step: float | None = None
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
            last = low + math.floor((high - low) / self.step + 1e-9) * self.step
            if not math.isclose(last, high):
                raise ValueError(f"steps of {self.step:g} end at {last:g}, not at high {high:g}")
        return self

    def grid(self) -> list[Any] | None:
        """Return all values, or None for a range without steps."""
        if not self.step:
            return None
        count = round((self.high - self.low) / self.step) + 1
        return [self.low + i * self.step for i in range(count)]

    def contains(self, value: Any) -> bool:
        """Return whether the entry can have this value."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class FloatEntry(_Range):
    """A number from ``low`` to ``high``, in steps if there is a step."""

    type: Literal["float"]
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    step: float | None = Field(None, gt=0, allow_inf_nan=False)

    def suggest(self, name: str, trial: optuna.Trial) -> float:
        """Draw a value for a trial."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def nearest(self, value: float) -> float:
        """Return the possible value closest to another."""
        if self.step:
            value = self.low + round((value - self.low) / self.step) * self.step
        return min(max(value, self.low), self.high)

    def samples(self) -> list[Any]:
        """Return values that a valid recipe must accept: both ends and one between them."""
        # Whole ends would hide that a setting takes whole numbers only.
        inner = self.low + (self.step or (self.high - self.low) * 0.3819)
        return [self.low, self.high, inner]


class IntEntry(_Range):
    """A whole number from ``low`` to ``high``, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int | None = Field(None, ge=1)

    def suggest(self, name: str, trial: optuna.Trial) -> int:
        """Draw a value for a trial."""
        return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)

    def samples(self) -> list[Any]:
        """Return values that a valid recipe must accept: both ends."""
        return [self.low, self.high]

    def grid(self) -> list[Any]:
        """Return all values."""
        return list(range(self.low, self.high + 1, self.step or 1))

    def contains(self, value: Any) -> bool:
        """Return whether the entry can have this value."""
        return super().contains(value) and value == int(value)


class CategoricalEntry(_Entry):
    """One of several values."""

    type: Literal["categorical"]
    choices: tuple[Value, ...] = Field(min_length=1)

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: tuple[Value, ...]) -> tuple[Value, ...]:
        stored = [_stored(choice) for choice in choices]
        for choice in stored:
            if stored.count(choice) > 1:
                raise ValueError(f"{choice!r} is given twice")
        return choices

    def suggest(self, name: str, trial: optuna.Trial) -> Value:
        """Draw a value for a trial."""
        chosen = trial.suggest_categorical(name, [_stored(choice) for choice in self.choices])
        return self.restored(chosen)

    def restored(self, stored: Any) -> Value:
        """Return the choice that Optuna stored like this."""
        return next(choice for choice in self.choices if _stored(choice) == stored)

    def samples(self) -> list[Any]:
        """Return values that a valid recipe must accept: all of them."""
        return list(self.choices)

    def grid(self) -> list[Any]:
        """Return all values."""
        return list(self.choices)

    def contains(self, value: Any) -> bool:
        """Return whether the entry can have this value."""
        return value in self.choices


Entry = Annotated[FloatEntry | IntEntry | CategoricalEntry, Field(discriminator="type")]
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


class Space:
    """A checked search space; calling it with an Optuna trial draws one set of values.

    Args:
        entries: Entries by dotted name of the setting, each after those that its ``when`` names.
    """

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries

    def __call__(self, trial: optuna.Trial) -> dict[str, Value]:
        """Draw a value of every entry whose conditions hold."""
        drawn: dict[str, Value] = {}
        for name, entry in self.entries.items():
            if entry.holds(drawn):
                drawn[name] = entry.suggest(name, trial)
        return drawn

    def values(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a recipe from a trial's parameters in Optuna."""
        return {
            name: entry.restored(stored[name]) if isinstance(entry, CategoricalEntry)
            else stored[name]
            for name, entry in self.entries.items() if name in stored
        }  # fmt: skip

    def stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of a recipe as Optuna stores them, without those that cannot be drawn.

        Those have no entry, lie outside of it, or do not meet its conditions.
        """
        drawn: dict[str, Any] = {}
        for name, entry in self.entries.items():
            if name in values and entry.contains(values[name]) and entry.holds(drawn):
                drawn[name] = values[name]
        return {name: _stored(value) for name, value in drawn.items()}

    def grid(self) -> list[dict[str, Any]]:
        """Return all combinations that can be drawn, as Optuna stores them.

        Raises:
            IrmasError: An entry is a range without steps.
        """
        points: list[dict[str, Any]] = [{}]
        for name, entry in self.entries.items():
            if (values := entry.grid()) is None:
                raise IrmasError(f"a grid needs a step or choices, and {name} has neither")
            points = [
                extended
                for point in points
                for extended in (
                    [point | {name: value} for value in values] if entry.holds(point) else [point]
                )
            ]
        return [self.stored(point) for point in points]

    def content(self) -> dict[str, Any]:
        """Return the entries as in YAML, for `build_space`."""
        return {
            name: entry.model_dump(mode="json", exclude_defaults=True)
            for name, entry in self.entries.items()
        }


FIXED = {
    "corpus": "clips and instruments are fixed when features are extracted",
    "features": "features are extracted before the first trial: extract a store for each value",
    "validation": "trials are compared on the same validation clips",
    "ingest": "it decides how clips are loaded, not what is learnt from them",
    "tracking": "it decides how a trial is logged, not how well it does",
}
"""Parts of a recipe that no trial can change, and why."""


def load_space(space: str | Path, recipe: Recipe) -> Space:
    """Read a space and check every entry against the recipe that it varies.

    Args:
        space: A YAML file, or the name of a shipped space.
        recipe: The recipe that the space varies.

    Raises:
        IrmasError: No such file, not YAML, or as from `build_space`.
    """
    file = read_yaml(find_config(space, "space"))
    if not file.content:
        raise IrmasError(
            f"{file.path} must hold at least one entry, such as training.lr: {{type: …}}"
        )
    return build_space(file.content, recipe, file)


def build_space(content: Mapping[str, Any], recipe: Recipe, origin: str | YamlFile) -> Space:
    """Check entries against the recipe that they vary, and order them by their conditions.

    Args:
        content: Entries by dotted name, as in YAML.
        recipe: The recipe that the space varies.
        origin: Where the entries come from, for errors.

    Raises:
        IrmasError: An unknown name, a setting that no trial can change, a wrong type, an empty
            range, a value that the recipe refuses, or a condition that can never hold.
    """
    where = origin.where if isinstance(origin, YamlFile) else lambda *keys: origin
    for name in content:
        if reason := FIXED.get(name.partition(".")[0]):
            raise IrmasError(f"{where(name)}: {name} cannot be searched: {reason}")
    entries = {name: _read_entry(name, value, where(name)) for name, value in content.items()}
    for name, entry in entries.items():
        for other, wanted in entry.when.items():
            if other not in entries:
                raise IrmasError(f"{where(name)}: {name} depends on {other}, which is not searched")
            for value in alternatives(wanted):
                if not entries[other].contains(value):
                    raise IrmasError(
                        f"{where(name)}: {name} depends on {other}={value!r}, which is never drawn"
                    )
    space = Space(_in_order(entries, str(where())))
    for name, entry in space.entries.items():
        given = _conditions(name, space.entries)
        for value in entry.samples():
            build_recipe(recipe.model_dump(), {**given, name: value}, where(name))
    return space


def _read_entry(name: str, value: Any, origin: str) -> Entry:
    try:
        return _ENTRY.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f" {part}" for part in first["loc"][1:2])
        message = first["msg"].removeprefix("Value error, ")
        raise IrmasError(f"{origin}: {name}{field}: {message}") from error


def _in_order(entries: dict[str, Entry], origin: str) -> dict[str, Entry]:
    """Put every entry after those that it depends on, and otherwise keep the order."""
    ordered: dict[str, Entry] = {}
    left = dict(entries)
    while left:
        ready = [name for name, entry in left.items() if ordered.keys() >= entry.when.keys()]
        if not ready:
            raise IrmasError(f"{origin}: conditions in a circle: {' and '.join(sorted(left))}")
        ordered[ready[0]] = left.pop(ready[0])
    return ordered


def _conditions(name: str, entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return values under which an entry is searched, by its conditions and theirs."""
    given: dict[str, Any] = {}
    for other, wanted in entries[name].when.items():
        given |= {**_conditions(other, entries), other: alternatives(wanted)[0]}
    return given


def alternatives(wanted: Value | list[Value]) -> list[Value]:
    """Return the values that a condition allows."""
    return wanted if isinstance(wanted, list) else [wanted]


def _stored(value: Value) -> bool | int | float | str:
    """Return a choice as Optuna can store it."""
    if value is None or isinstance(value, tuple):
        return json.dumps(value)
    return value


def short(value: Any) -> str:
    """Return a value in few characters: three digits, and all digits of a whole number."""
    if isinstance(value, float):
        return f"{value:.0f}" if 1_000 <= abs(value) < 1e9 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(short(item) for item in value) + "]"
    return "none" if value is None else str(value)

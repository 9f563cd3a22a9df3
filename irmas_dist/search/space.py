"""A search space: YAML to an Optuna define-by-run function, checked before anything starts.

An entry names a value of the recipe and where it may lie:

    training.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
    model.head: {type: categorical, choices: [flatten, max]}
    model.dense: {type: int, low: 64, high: 512, step: 64, when: {model.head: flatten}}
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from irmas_dist.config import Recipe, build_recipe
from irmas_dist.errors import IrmasError
from irmas_dist.settings import Settings

Value = bool | int | float | str


class _Entry(Settings):
    when: dict[str, Value] = Field({})
    """Searched only when these other entries have these values."""


class _Range(_Entry):
    log: bool = False
    """Whether to search on a logarithmic scale."""

    @model_validator(mode="after")
    def _not_empty(self) -> "_Range":
        low, high = getattr(self, "low"), getattr(self, "high")  # noqa: B009
        if not low < high:
            raise ValueError(f"low {low:g} must be below high {high:g}")
        if self.log and low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {low:g}")
        if self.log and getattr(self, "step", None):
            raise ValueError("a logarithmic scale has no step")
        return self


class FloatEntry(_Range):
    """A number from ``low`` to ``high``, in steps if there is a step."""

    type: Literal["float"]
    low: float
    high: float
    step: float | None = Field(None, gt=0)


class IntEntry(_Range):
    """A whole number from ``low`` to ``high``, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int | None = Field(None, ge=1)


class CategoricalEntry(_Entry):
    """One of a few values."""

    type: Literal["categorical"]
    choices: tuple[Value, ...] = Field(min_length=1)


Entry = Annotated[FloatEntry | IntEntry | CategoricalEntry, Field(discriminator="type")]
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


class Space:
    """A checked search space; calling it with an Optuna trial draws one set of values.

    Args:
        entries: Entry by dotted name of a recipe's value, an entry after those that its
            ``when`` names.
    """

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries

    def __call__(self, trial: optuna.Trial) -> None:
        """Ask the trial for a value of every entry whose conditions hold."""
        drawn: dict[str, Value] = {}
        for name, entry in self.entries.items():
            if any(drawn.get(other) != value for other, value in entry.when.items()):
                continue
            if isinstance(entry, CategoricalEntry):
                drawn[name] = trial.suggest_categorical(name, list(entry.choices))
            elif isinstance(entry, IntEntry):
                step = entry.step or 1
                drawn[name] = trial.suggest_int(
                    name, entry.low, entry.high, step=step, log=entry.log
                )
            else:
                drawn[name] = trial.suggest_float(
                    name, entry.low, entry.high, step=entry.step, log=entry.log
                )


def load_space(path: Path, recipe: Recipe) -> Space:
    """Read a space and check every entry against the recipe it is to vary.

    Raises:
        IrmasError: No such file, not YAML, an unknown name, an empty range, a value that the
            recipe refuses, or a condition on something that is not searched before.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise IrmasError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise IrmasError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise IrmasError(f"{path} must hold at least one entry, such as training.lr: {{type: …}}")
    entries: dict[str, Entry] = {}
    for name, value in content.items():
        try:
            entry = _ENTRY.validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            field = "".join(f" {part}" for part in first["loc"][1:])
            message = first["msg"].removeprefix("Value error, ")
            raise IrmasError(f"{path}: {name}{field}: {message}") from error
        for other in entry.when:
            if other not in entries:
                raise IrmasError(f"{path}: {name} depends on {other}, which no entry above it has")
        for extreme in _extremes(entry):
            build_recipe(recipe.model_dump(), {name: extreme}, str(path))
        entries[name] = entry
    return Space(entries)


def _extremes(entry: Entry) -> list[Any]:
    if isinstance(entry, CategoricalEntry):
        return list(entry.choices)
    return [entry.low, entry.high]

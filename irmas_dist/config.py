"""The recipe: all settings of a run, read from YAML, overridden by name, refused when wrong."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from irmas_dist.errors import IrmasError
from irmas_dist.features.logmel import LogMelSettings
from irmas_dist.instruments import IRMAS_INSTRUMENTS, Vocabulary
from irmas_dist.settings import Settings
from irmas_dist.tracking import TrackingSettings
from irmas_dist.training.learner import LearnerSettings
from irmas_dist.training.task import ValidationSettings


class CorpusSettings(Settings):
    """What is in the data set."""

    instruments: dict[str, str] = Field(IRMAS_INSTRUMENTS, min_length=1)
    """Instruments to tell apart: code, as in folder names and label files, to name."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The instruments in order."""
        return Vocabulary.of(self.instruments)


class Recipe(LearnerSettings):
    """All settings of a run, room by room."""

    corpus: CorpusSettings = CorpusSettings()
    features: LogMelSettings = LogMelSettings()
    validation: ValidationSettings = ValidationSettings()
    tracking: TrackingSettings = TrackingSettings()


def load_recipe(path: Path | None = None, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: A YAML file; none means the defaults.
        overrides: ``name=value`` each, the name dotted (``training.lr=1e-3``), the value YAML.

    Raises:
        IrmasError: No such file, not YAML, or a key or value that a recipe does not have.
    """
    content: Any = {}
    origin = "the recipe"
    if path is not None:
        origin = str(path)
        try:
            content = yaml.safe_load(path.read_text()) or {}
        except OSError as error:
            raise IrmasError(f"{path}: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise IrmasError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise IrmasError(f"{path} must hold settings by name, not {content!r}")
    values: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise IrmasError(f"--set {override}: expected name=value, such as training.lr=1e-3")
        values[name.strip()] = _parse(text)
    return build_recipe(content, values, origin)


def build_recipe(content: dict[str, Any], values: dict[str, Any], origin: str) -> Recipe:
    """Build a recipe from nested settings with some values replaced by dotted name.

    Args:
        content: Nested settings; not changed.
        values: Dotted name to value.
        origin: Where the settings came from, for errors.

    Raises:
        IrmasError: A key or value that a recipe does not have.
    """
    merged = _nested(content)
    for name, value in values.items():
        *path, last = name.split(".")
        place = merged
        for key in path:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise IrmasError(f"{name}: {key} is a value, not a group of settings")
            place = inner
        place[last] = value
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        source = "--set" if name in values else origin
        raise IrmasError(f"{source}: {_explain(name, first)}") from error


def _nested(content: dict[str, Any]) -> dict[str, Any]:
    """Copy nested dicts, so that overriding the copy leaves the original alone."""
    return {k: _nested(v) if isinstance(v, dict) else v for k, v in content.items()}


def _parse(text: str) -> Any:
    """Read a value as YAML, and 1e-3 as the number that YAML 1.1 does not see in it."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(name: str, error: ErrorDetails) -> str:
    """Put one validation error into one line: the full name, what was given, what is allowed."""
    given = error["input"]
    if error["type"] == "extra_forbidden":
        *path, _ = name.split(".")
        return (
            f"unknown setting {name}={given!r}; {'.'.join(path) or 'a recipe'} has {_fields(path)}"
        )
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{name}={given!r}: {message}" if not isinstance(given, dict) else f"{name}: {message}"


def _fields(path: list[str]) -> str:
    model: Any = Recipe
    for key in path:
        model = model.model_fields[key].annotation
    return ", ".join(model.model_fields)

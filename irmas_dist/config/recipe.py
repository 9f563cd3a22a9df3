"""The recipe: all settings of a run, read from YAML, overridden by name and validated."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from irmas_dist.config.base import Settings, describe_error
from irmas_dist.config.corpus import CorpusSettings, ValidationSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.shipped import find_config, shipped_names
from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.config.training import IngestSettings, LearnerSettings
from irmas_dist.config.yaml_files import YamlFile, parse_value, read_yaml
from irmas_dist.errors import IrmasError, UsageError


class Recipe(LearnerSettings):
    """All settings of a run."""

    corpus: CorpusSettings = CorpusSettings()
    features: LogMelSettings = LogMelSettings()
    validation: ValidationSettings = ValidationSettings()
    ingest: IngestSettings = IngestSettings()
    tracking: TrackingSettings = TrackingSettings()


def load_recipe(config: str | Path | None = None, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        config: A YAML file, a model directory, which has the recipe that it was trained with, or
            the name of a shipped recipe; None means the defaults.
        overrides: ``name=value`` each, the name dotted (``training.lr=1e-3``), the value YAML.

    Raises:
        UsageError: An override has an unknown name or value, or names a group of settings.
        IrmasError: There is no such recipe, it is not YAML, or a key or value is unknown.
    """
    file = None if config is None else _recipe_of(config)
    content = file.content if file else {}
    # Alone first, so that errors after it are due to the overrides.
    recipe = build_recipe(content, {}, file or "the defaults")
    values: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override}: expected name=value, such as training.lr=1e-3")
        name = name.strip()
        # Whether the group's other settings were to stay would be a guess.
        if group := _group(name.split(".")):
            fields = ", ".join(group.model_fields)
            raise UsageError(f"--set: {name}={text}: this is a group of settings: {fields}")
        values[name] = parse_value(text)
    if not values:
        return recipe
    try:
        return build_recipe(content, values, "--set")
    except IrmasError as error:
        raise UsageError(str(error)) from error


def _recipe_of(config: str | Path) -> YamlFile:
    # Imported here, as settings need pydantic alone.
    from irmas_dist import storage
    from irmas_dist.storage.results import MODEL_FILE

    model = storage.join(config, MODEL_FILE)
    if str(config) in shipped_names("recipe") or not storage.exists(model):
        return read_yaml(find_config(config, "recipe"))
    try:
        return YamlFile(model, dict(storage.read_json(model)["recipe"]), {})
    except (ValueError, TypeError, KeyError) as error:
        raise IrmasError(f"{model} is damaged: it has no recipe") from error


def build_recipe(content: dict[str, Any], values: dict[str, Any], origin: str | YamlFile) -> Recipe:
    """Build a recipe from nested settings with some values replaced by dotted name.

    Args:
        content: Nested settings; not changed.
        values: Dotted name to value.
        origin: Where the settings came from, for errors.

    Raises:
        IrmasError: A key or value is unknown.
    """
    try:
        return Recipe.model_validate(with_values(content, values, origin))
    except ValidationError as error:
        first = error.errors()[0]
        where = origin.where(*first["loc"]) if isinstance(origin, YamlFile) else origin
        raise IrmasError(f"{where}: {_explain(first)}") from error


def with_values(
    content: dict[str, Any], values: Mapping[str, Any], origin: str | YamlFile
) -> dict[str, Any]:
    """Return a copy of nested settings with some values replaced by dotted name.

    Raises:
        IrmasError: A name goes through a value.
    """
    merged = _nested(content)
    for name, value in values.items():
        *path, last = name.split(".")
        place = merged
        for key in path:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise IrmasError(f"{origin}: {name}: {key} is a value, not a group of settings")
            place = inner
        place[last] = value
    return merged


def _nested(content: dict[str, Any]) -> dict[str, Any]:
    """Copy nested dicts, so that overriding the copy leaves the original alone."""
    return {k: _nested(v) if isinstance(v, dict) else v for k, v in content.items()}


def _explain(error: ErrorDetails) -> str:
    """Describe a validation error in one line: full name, given value, what is allowed."""
    name, given = ".".join(map(str, error["loc"])), error["input"]
    match error["type"]:
        case "extra_forbidden":
            path = name.split(".")[:-1]
            group = ".".join(path) or "a recipe"
            return f"unknown setting {name}={given!r}; {group} has {_fields(path)}"
        case "model_type":
            return f"{name}={given!r}: this is a group of settings: {_fields(name.split('.'))}"
        case "string_type" if isinstance(given, bool | int | float):
            told = f"{name}={given!r}: {describe_error(error)}; quote it"
            return f"""{told}, in a shell as '{name}="…"'"""
    message = describe_error(error)
    # Of several settings that contradict each other, the message names them.
    if isinstance(given, dict) and error["type"] == "value_error":
        return f"{name}: {message}" if name else message
    return f"{name}={given!r}: {message}"


def _fields(path: list[str]) -> str:
    group = _group(path)
    return ", ".join(group.model_fields) if group else ""


def _group(path: list[str]) -> type[Settings] | None:
    """Return the group of settings that a name leads to, if it is one."""
    model: Any = Recipe
    for key in path:
        field = model.model_fields.get(key)
        model = field and field.annotation
        if not (isinstance(model, type) and issubclass(model, Settings)):
            return None
    return model

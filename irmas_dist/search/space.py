"""A search space: YAML to an Optuna define-by-run function, checked before a sweep starts.

An entry names a setting of the recipe and its range or choices:

    training.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
    model.head: {type: categorical, choices: [flatten, max]}
    model.dense: {type: int, low: 64, high: 512, step: 64, when: {model.head: flatten}}
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.shipped import find_config
from irmas_dist.config.yaml_files import YamlFile, read_yaml
from irmas_dist.errors import IrmasError
from irmas_dist.search.entries import Entry, Value, alternatives, read_entry, stored_form


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
            name: entry.restored(stored[name])
            for name, entry in self.entries.items()
            if name in stored
        }

    def stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of a recipe as Optuna stores them, without those that cannot be drawn.

        Those have no entry, lie outside of it, or do not meet its conditions.
        """
        drawn: dict[str, Any] = {}
        for name, entry in self.entries.items():
            if name in values and entry.contains(values[name]) and entry.holds(drawn):
                drawn[name] = values[name]
        return {name: stored_form(value) for name, value in drawn.items()}

    def grid(self) -> Iterator[dict[str, Any]]:
        """Return all combinations that can be drawn, one after the other, as Optuna stores them.

        Raises:
            IrmasError: An entry is a range without steps.
        """
        for name, entry in self.entries.items():
            if entry.grid() is None:
                raise IrmasError(f"a grid needs a step or choices, and {name} has neither")
        return map(self.stored, self._combinations(list(self.entries), {}))

    def _combinations(self, names: list[str], point: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield a point with each combination of values of further entries."""
        if not names:
            yield point
            return
        name, *others = names
        entry = self.entries[name]
        if not entry.holds(point):
            yield from self._combinations(others, point)
            return
        for value in entry.grid() or ():
            yield from self._combinations(others, point | {name: value})

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
    "thresholds.evidence": "trials are compared by the thresholds that fit best, before it counts",
}
"""Parts of a recipe that no trial can change, and single settings, and why."""


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
        if reason := FIXED.get(name, FIXED.get(name.partition(".")[0])):
            raise IrmasError(f"{where(name)}: {name} cannot be searched: {reason}")
    entries = {name: read_entry(name, value, where(name)) for name, value in content.items()}
    for name, entry in entries.items():
        for other, wanted in entry.when.items():
            if other not in entries:
                raise IrmasError(f"{where(name)}: {name} depends on {other}, which is not searched")
            searched = entries[other]
            for value in alternatives(wanted):
                # Of a range without steps no value is ever drawn again.
                if not searched.contains(value) or searched.grid() is None:
                    raise IrmasError(
                        f"{where(name)}: {name} depends on {other}={value!r}, which is never drawn"
                    )
    space = Space(_in_order(entries, str(where())))
    for name, entry in space.entries.items():
        conditions = required(name, space.entries)
        if not all(conditions.values()):
            raise IrmasError(
                f"{where(name)}: {name} is never searched: its conditions and those of the entries "
                "that they name exclude each other"
            )
        given = {other: values[0] for other, values in conditions.items()}
        for value in entry.samples():
            build_recipe(recipe.model_dump(), {**given, name: value}, where(name))
    return space


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


def required(name: str, entries: Mapping[str, Entry]) -> dict[str, list[Value]]:
    """Return the values of other entries with which an entry is searched.

    They meet its conditions and those of the entries that these name; an entry is never searched
    if another one has none.
    """
    values: dict[str, list[Value]] = {}
    for other, wanted in entries[name].when.items():
        for each, meeting in [*required(other, entries).items(), (other, alternatives(wanted))]:
            values[each] = [value for value in meeting if value in values.get(each, meeting)]
    return values

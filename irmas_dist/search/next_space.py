"""What to search next: how the best trials' values compare with what was searched."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from irmas_dist.search.space import (
    CategoricalEntry,
    Entry,
    FloatEntry,
    IntEntry,
    Space,
    alternatives,
    short,
)

MINOR = 0.02
"""A setting with a smaller share of the importance can as well be fixed."""

FEWEST = 8
"""Completed trials without which nothing is advised."""

EDGE = 0.1
"""Best values in this share of a range at one end of it say that the range ends too early."""


class Advice(NamedTuple):
    """What to do about one entry.

    Attributes:
        name: The entry.
        reason: Why, in words.
        entry: The entry to search next, as in YAML; None: fix it.
        value: The best trial's value, for entries that are to be fixed.
    """

    name: str
    reason: str
    entry: dict[str, Any] | None
    value: Any


def advise(
    rows: Sequence[Mapping[str, Any]], space: Space, shares: Mapping[str, float]
) -> list[Advice]:
    """Return what the best quarter of the completed trials says about each entry.

    Args:
        rows: Trials, as from `list_trials`.
        space: What was searched.
        shares: Importance by name.
    """
    ended = [row for row in rows if row["state"] == "completed"]
    if len(ended) < FEWEST:
        return []
    best = ended[: max(len(ended) // 4, 3)]
    advice = []
    for name, entry in space.entries.items():
        values = [row["params"][name] for row in best if name in row["params"]]
        if not values:
            continue
        if shares.get(name, 1.0) < MINOR:
            share = f"{100 * shares[name]:.0f} %"
            reason = f"hardly matters ({share} of the importance)"
            advice.append(Advice(name, reason, None, values[0]))
        elif isinstance(entry, CategoricalEntry):
            advice += _choices(name, entry, values, rows)
        else:
            advice += _range(name, entry, values)
    return advice


def narrowed(space: Space, advice: Sequence[Advice]) -> Space:
    """Return the space to search next.

    Args:
        space: What was searched.
        advice: What to change; entries that are fixed leave the space, and so does what is
            searched only under other values of them.
    """
    fixed = {item.name: _key(item.value) for item in advice if item.entry is None}
    changed = {item.name: item.entry for item in advice if item.entry is not None}
    kept: dict[str, Entry] = {}

    def possible(name: str, value: Any) -> bool:
        if name in fixed:
            return bool(fixed[name] == value)
        return name in kept and kept[name].contains(value)

    for name, entry in space.entries.items():
        when = {
            other: [value for value in alternatives(wanted) if possible(other, value)]
            for other, wanted in entry.when.items()
        }
        if name not in fixed and all(when.values()):
            left = {other: values for other, values in when.items() if other not in fixed}
            content = changed.get(name, entry.model_dump())
            kept[name] = type(entry).model_validate(content | {"when": left})
    return Space(kept)


def _choices(
    name: str, entry: CategoricalEntry, values: list[Any], rows: Sequence[Mapping[str, Any]]
) -> list[Advice]:
    tried = [_key(row["params"].get(name)) for row in rows]
    kept = [c for c in entry.choices if c in map(_key, values) or tried.count(_key(c)) < 2]
    if len(kept) == len(entry.choices):
        return []
    gone = ", ".join(short(choice) for choice in entry.choices if choice not in kept)
    reason = f"none of the best has {gone}"
    if len(kept) == 1:
        return [Advice(name, reason, None, kept[0])]
    choices = [list(c) if isinstance(c, tuple) else c for c in kept]
    return [Advice(name, reason, {"type": "categorical", "choices": choices}, None)]


def _range(name: str, entry: FloatEntry | IntEntry, values: list[float]) -> list[Advice]:
    warp, back = (math.log, math.exp) if entry.log else (float, float)
    low, high = warp(entry.low), warp(entry.high)
    span = high - low
    inner = [(warp(value) - low) / span for value in values]
    middle = median(inner)
    content = entry.model_dump(exclude_defaults=True, exclude={"when"}) | {"type": entry.type}

    def bound(share: float) -> float:
        value = back(low + share * span)
        return round(value) if isinstance(entry, IntEntry) else float(f"{value:.2g}")

    if middle > 1 - EDGE or middle < EDGE:
        end = "upper" if middle > 0.5 else "lower"
        return [Advice(name, f"the best lie at its {end} end: there may be more beyond", content,
                       None)]  # fmt: skip
    first, last = max(min(inner) - 0.1, 0.0), min(max(inner) + 0.1, 1.0)
    if entry.step or last - first > 0.6 or bound(first) >= bound(last):
        return []
    content |= {"low": bound(first), "high": bound(last)}
    return [Advice(name, f"the best lie between {short(min(values))} and {short(max(values))}",
                   content, None)]  # fmt: skip


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

"""The space to search next, from the values of the best trials."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from irmas_dist.search.entries import (
    CategoricalEntry,
    Entry,
    FloatEntry,
    IntEntry,
    alternatives,
    as_choice,
    short,
)
from irmas_dist.search.space import Space, required
from irmas_dist.search.study import MIN_TRIALS, TrialRow

MIN_IMPORTANCE = 0.02
"""An entry with a smaller share of the importance can be fixed."""

EDGE = 0.1
"""Best values in this share of a range at one of its ends mean that it ends too early."""


class Advice(NamedTuple):
    """A change of one entry.

    Attributes:
        name: The entry.
        reason: Why.
        entry: The entry to search next, as in YAML; None to fix it.
        value: The best trial's value, for entries to fix.
    """

    name: str
    reason: str
    entry: dict[str, Any] | None = None
    value: Any = None


def advise(rows: Sequence[TrialRow], space: Space, shares: Mapping[str, float]) -> list[Advice]:
    """Return changes of entries that the best quarter of the completed trials suggests.

    Args:
        rows: Trials, as from `list_trials`.
        space: The searched space.
        shares: Importance of entries, as from `importances`.
    """
    ended = [row for row in rows if row["state"] == "completed"]
    if len(ended) < MIN_TRIALS:
        return []
    best = ended[: max(len(ended) // 4, 3)]
    advice = []
    for name, entry in space.entries.items():
        values = [row["params"][name] for row in best if name in row["params"]]
        if not values:
            continue
        if shares.get(name, 1.0) < MIN_IMPORTANCE:
            share = f"{100 * shares[name]:.0f} %"
            reason = f"hardly matters ({share} of the importance)"
            advice.append(Advice(name, reason, value=values[0]))
        elif isinstance(entry, CategoricalEntry):
            advice += _choices(name, entry, values, rows)
        else:
            advice += _range(name, entry, values)
    return advice


def narrowed(space: Space, advice: Sequence[Advice]) -> Space:
    """Return the space to search next.

    Args:
        space: The searched space.
        advice: The changes; fixed entries leave the space, and with them entries that are
            searched only under other values of theirs, or under values that no longer go together.
    """
    fixed = {item.name: as_choice(item.value) for item in advice if item.entry is None}
    changed = {item.name: item.entry for item in advice if item.entry is not None}
    entries: dict[str, Entry] = {}

    def possible(name: str, value: Any) -> bool:
        if name in fixed:
            return bool(fixed[name] == value)
        return name in entries and entries[name].contains(value)

    for name, entry in space.entries.items():
        when = {
            other: [value for value in alternatives(wanted) if possible(other, value)]
            for other, wanted in entry.when.items()
        }
        if name not in fixed and all(when.values()):
            conditions = {other: values for other, values in when.items() if other not in fixed}
            content = changed.get(name, entry.model_dump())
            entries[name] = type(entry).model_validate(content | {"when": conditions})
    return Space({
        name: entry for name, entry in entries.items() if all(required(name, entries).values())
    })  # fmt: skip


def _choices(
    name: str, entry: CategoricalEntry, values: list[Any], rows: Sequence[TrialRow]
) -> list[Advice]:
    tried = [as_choice(row["params"][name]) for row in rows if name in row["params"]]
    good = [c for c in entry.choices if c in map(as_choice, values) or tried.count(c) < 2]
    if len(good) == len(entry.choices):
        return []
    others = ", ".join(short(choice) for choice in entry.choices if choice not in good)
    reason = f"none of the best has {others}"
    if len(good) == 1:
        return [Advice(name, reason, value=good[0])]
    choices = [list(c) if isinstance(c, tuple) else c for c in good]
    return [Advice(name, reason, {"type": "categorical", "choices": choices})]


def _range(name: str, entry: FloatEntry | IntEntry, values: list[float]) -> list[Advice]:
    warp, back = (math.log, math.exp) if entry.log else (float, float)
    low = warp(entry.low)
    span = warp(entry.high) - low
    shares = [(warp(value) - low) / span for value in values]
    middle = median(shares)
    content = entry.model_dump(exclude_defaults=True, exclude={"when"}) | {"type": entry.type}

    def bound(share: float) -> float:
        value = back(low + share * span)
        value = round(value) if isinstance(entry, IntEntry) else float(f"{value:.2g}")
        return min(max(value, entry.low), entry.high)

    if middle > 1 - EDGE or middle < EDGE:
        end = "upper" if middle > 0.5 else "lower"
        return [Advice(name, f"the best lie at its {end} end: it may end too early", content)]
    least, most = min(values), max(values)
    first, last = max(min(shares) - 0.1, 0.0), min(max(shares) + 0.1, 1.0)
    # Two digits may be too few for a range that is narrow far from 0.
    ends = {"low": min(bound(first), least), "high": max(bound(last), most)}
    same = ends == {"low": entry.low, "high": entry.high}
    if entry.step or last - first > 0.6 or same or ends["low"] >= ends["high"]:
        return []
    reason = f"the best lie between {short(least)} and {short(most)}"
    return [Advice(name, reason, content | ends)]

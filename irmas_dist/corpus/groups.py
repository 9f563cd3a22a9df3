"""Groups of clips that must stay together, and identical audio with different labels.

IRMAS has both: training files that are byte-identical under two recording IDs, which a split by
names alone would leak, and identical files with different labels. All functions work on rows of
a manifest and open no file.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from irmas_dist.config.corpus import ConflictPolicy

SOURCE = "source "
"""Begins the name of a group of which the source is known."""

WITHIN = " / "
"""Stands in such a name between the source, which does not contain it, and the rest."""


def group_in_source(group: str, source: str) -> str:
    """Return the name of a group of a source, such as a sample library; without one, the group."""
    return f"{SOURCE}{source}{WITHIN}{group}" if source else group


def has_source(group: str) -> bool:
    """Return whether the name of a group tells its source."""
    return group.startswith(SOURCE) and WITHIN in group


def source_of(group: str) -> str:
    """Return the source in the name of a group: the group itself where none is known."""
    return group.partition(WITHIN)[0].removeprefix(SOURCE) if has_source(group) else group


def group_in_fold(group: str, fold: int) -> str:
    """Return the name of a group of a fold, counted from 1; of fold 0, none, the group."""
    return f"fold {fold}: {group}" if fold else group


def split_fold(group: str) -> tuple[int, str]:
    """Return fold and group of a name from `group_in_fold`."""
    named = re.match(r"fold (\d+): ", group)
    return (int(named[1]), group[named.end() :]) if named else (0, group)


@dataclass(frozen=True)
class Conflict:
    """Files with the same bytes and different labels."""

    md5: str
    clips: dict[str, tuple[str, ...]]  # instruments by clip_id, of two clips or more


def join_identical(rows: list[dict[str, Any]]) -> None:
    """Merge the groups of byte-identical clips, and of clips of one file.

    Spans of a file stay apart if all of its clips were given groups and these spans do not
    overlap. A merged group has the first, in alphabetical order, of the names of its groups. Rows
    with a problem merge nothing: two empty files have the same bytes and are not one recording.

    Args:
        rows: Rows of a manifest, changed in place; ``md5`` is None where it is unknown. Those
            that have ``file_md5`` join clips of their file, unless ``grouped`` says that they were
            given a group.
    """
    parent = {row["group"]: row["group"] for row in rows}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    of_one_file = (
        part for clips in _identical(rows, "file_md5").values() for part in _apart(clips)
    )
    for twins in (*_identical(rows).values(), *of_one_file):
        for twin in twins[1:]:
            low, high = sorted((root(twins[0]["group"]), root(twin["group"])))
            parent[high] = low
    for row in rows:
        row["group"] = root(row["group"])


def _apart(clips: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Divide the clips of a file into those that belong together."""
    if not all(row.get("grouped") for row in clips):
        return [clips]
    parts: list[list[dict[str, Any]]] = []
    latest = -1.0
    for row in sorted(clips, key=lambda row: row["start_s"] or 0.0):
        if (row["start_s"] or 0.0) < latest:
            parts[-1].append(row)
        else:
            parts.append([row])
        latest = max(latest, math.inf if row["end_s"] is None else row["end_s"])
    return parts


def find_conflicts(rows: list[dict[str, Any]]) -> list[Conflict]:
    """Return the conflicts among rows of a manifest, in order of their first clip.

    Rows with a problem, and rows whose ``md5`` is unknown, are in no conflict.
    """
    found = [
        Conflict(md5, {row["clip_id"]: tuple(row["instruments"]) for row in twins})
        for md5, twins in _identical(rows).items()
        if any(_contradict(one, other) for one, other in combinations(twins, 2))
    ]
    return sorted(found, key=lambda conflict: next(iter(conflict.clips)))


def settle_conflicts(rows: list[dict[str, Any]], policy: ConflictPolicy) -> list[Conflict]:
    """Return the conflicts among rows; the policy ``drop`` writes a ``problem`` into these rows."""
    conflicts = find_conflicts(rows)
    if policy == "drop":
        by_id = {row["clip_id"]: row for row in rows}
        for conflict in conflicts:
            for clip, codes in conflict.clips.items():
                other = next(c for c, others in conflict.clips.items() if {*others} != {*codes})
                labels = ", ".join(conflict.clips[other])
                by_id[clip]["problem"] = (
                    f"conflicting labels: the same audio as {other}, which is {labels}"
                )
    return conflicts


def _identical(rows: list[dict[str, Any]], digest: str = "md5") -> dict[str, list[dict[str, Any]]]:
    """Return the usable rows that share a digest with another, by digest, in order of clip_id."""
    by_md5: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["clip_id"]):
        if row.get(digest) and not row["problem"]:
            by_md5[row[digest]].append(row)
    return {md5: twins for md5, twins in by_md5.items() if len(twins) > 1}


def _contradict(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether an instrument plays in one of two rows and does not in the other."""
    unknown = {*one["unknown"], *other["unknown"]}
    return bool((set(one["instruments"]) ^ set(other["instruments"])) - unknown)

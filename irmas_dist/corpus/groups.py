"""Clips that belong together, and identical audio whose labels contradict each other.

Everything here works on rows of a manifest and opens no file.

IRMAS has both: training files that are byte for byte the same under two recording IDs, which a
split by names alone would leak, and identical files with different labels.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from irmas_dist.config.corpus import ConflictPolicy


@dataclass(frozen=True)
class Conflict:
    """Files with the same bytes and different instruments.

    Attributes:
        md5: Of each of the files.
        clips: Instruments by ``clip_id``, two clips or more.
    """

    md5: str
    clips: dict[str, tuple[str, ...]]


def join_identical(rows: list[dict[str, Any]]) -> None:
    """Give one group to byte-identical clips, and to all that share a group with one of them.

    A joined group has the name of the first of those that it is made of, in order of text.
    Rows with a problem join nothing: two empty files are the same bytes, and no recording.

    Args:
        rows: Rows of a manifest with ``group``, ``md5`` (none where it is not known) and
            ``problem``; changed in place.
    """
    parent = {row["group"]: row["group"] for row in rows}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for twins in _identical(rows).values():
        for twin in twins[1:]:
            low, high = sorted((root(twins[0]["group"]), root(twin["group"])))
            parent[high] = low
    for row in rows:
        row["group"] = root(row["group"])


def find_conflicts(rows: list[dict[str, Any]]) -> list[Conflict]:
    """Find the clips whose audio is byte for byte the same and whose instruments differ.

    Args:
        rows: Rows of a manifest. Those with a problem, which nothing learns from, and those
            whose ``md5`` is not known are in no conflict.

    Returns:
        The conflicts in order of their first clip.
    """
    found = [
        Conflict(md5, {row["clip_id"]: tuple(row["instruments"]) for row in twins})
        for md5, twins in _identical(rows).items()
        if len({frozenset(row["instruments"]) for row in twins}) > 1
    ]
    return sorted(found, key=lambda conflict: next(iter(conflict.clips)))


def settle_conflicts(rows: list[dict[str, Any]], policy: ConflictPolicy) -> list[Conflict]:
    """Find the conflicts, and make every clip in one unusable if the policy is to drop them.

    Args:
        rows: Rows of a manifest; dropping writes their ``problem``.
        policy: ``keep`` leaves the rows as they are.

    Returns:
        The conflicts, whatever became of them.
    """
    conflicts = find_conflicts(rows)
    if policy == "drop":
        by_id = {row["clip_id"]: row for row in rows}
        for conflict in conflicts:
            for clip, codes in conflict.clips.items():
                other, others = next(
                    (other, others)
                    for other, others in conflict.clips.items()
                    if set(others) != set(codes)
                )
                by_id[clip]["problem"] = (
                    f"conflicting labels: the same audio as {other}, which is {', '.join(others)}"
                )
    return conflicts


def _identical(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the usable rows that share an md5 with another, by md5, in order of clip_id."""
    by_md5: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["clip_id"]):
        if row["md5"] and not row["problem"]:
            by_md5[row["md5"]].append(row)
    return {md5: twins for md5, twins in by_md5.items() if len(twins) > 1}

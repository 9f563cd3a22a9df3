"""A summary of a manifest: clips and hours of each instrument, groups, and what is wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from irmas_dist.corpus.groups import Conflict
from irmas_dist.corpus.manifest import PARTS, TESTING, TRAINING
from irmas_dist.instruments import Vocabulary


@dataclass(frozen=True)
class IndexSummary:
    """Counts of a manifest's usable clips, each counted for every instrument it has."""

    clips: int
    hours: float
    groups: dict[str, int]  # by part
    per_instrument: dict[str, dict[str, int]]  # clips by instrument and part
    known_per_instrument: dict[str, dict[str, int]]  # clips in which it is known, likewise
    partly_known: bool  # whether something is unknown of a usable clip
    hours_per_instrument: dict[str, dict[str, float]]  # by instrument and part
    in_both_parts: list[str]  # groups in several parts, which inflate scores
    problems: dict[str, str]  # why a clip is unusable, by clip_id
    problem_kinds: dict[str, int]  # problems with the same text before the colon
    notes: dict[str, str]  # what is unusual of a usable clip, by clip_id
    conflicts: Sequence[Conflict]  # identical audio with different labels, usable or not


def summarise(
    rows: list[dict[str, Any]], conflicts: Sequence[Conflict], vocabulary: Vocabulary
) -> IndexSummary:
    """Count the clips, hours, groups and problems of a manifest.

    Args:
        rows: Rows of the manifest, as from `index_tree`.
        conflicts: What `groups.settle_conflicts` found in them.
        vocabulary: The instruments to count.
    """
    usable = [row for row in rows if not row["problem"]]
    problems = {row["clip_id"]: row["problem"] for row in rows if row["problem"]}
    # Most corpora have no validation clips of their own.
    present = {TRAINING, TESTING, *(row["part"] for row in rows)}
    parts = [part for part in PARTS if part in present]
    groups = {part: {row["group"] for row in usable if row["part"] == part} for part in parts}
    clips = {code: dict.fromkeys(parts, 0) for code in vocabulary.codes}
    seconds = {code: dict.fromkeys(parts, 0.0) for code in vocabulary.codes}
    clips_of_part = Counter(row["part"] for row in usable)
    known = {code: {part: clips_of_part[part] for part in parts} for code in vocabulary.codes}
    for row in usable:
        for code in row["unknown"]:
            known[code][row["part"]] -= 1
        for code in row["instruments"]:
            clips[code][row["part"]] += 1
            seconds[code][row["part"]] += row["duration_s"]
    kinds = Counter(problem.partition(":")[0] for problem in problems.values())
    return IndexSummary(
        clips=len(usable),
        hours=sum(row["duration_s"] for row in usable) / 3600,
        groups={part: len(groups[part]) for part in parts},
        per_instrument=clips,
        known_per_instrument=known,
        partly_known=any(row["unknown"] for row in usable),
        hours_per_instrument={
            code: {part: of[part] / 3600 for part in parts} for code, of in seconds.items()
        },
        in_both_parts=sorted(
            {group for one, other in combinations(groups.values(), 2) for group in one & other}
        ),
        problems=problems,
        problem_kinds=dict(kinds.most_common()),
        notes={row["clip_id"]: row["note"] for row in usable if row.get("note")},
        conflicts=conflicts,
    )

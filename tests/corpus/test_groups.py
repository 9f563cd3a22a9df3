"""Groups and conflicts: those of IRMAS, by its catalogue, and those of small manifests."""

from typing import Any

import pytest

from irmas_dist.config.corpus import CorpusSettings
from irmas_dist.corpus.groups import (
    Conflict,
    find_conflicts,
    join_identical,
    settle_conflicts,
)
from irmas_dist.corpus.names import song_of
from tests.corpus.manifests import part_of, row


def test_recordings_and_identical_files_join_into_groups(
    unjoined_rows: list[dict[str, Any]],
) -> None:
    by_name = {row["group"] for row in part_of(unjoined_rows, "training")}
    rows = [dict(row) for row in unjoined_rows]
    join_identical(rows)
    by_both = {row["group"] for row in part_of(rows, "training")}
    assert (len(by_name), len(by_both)) == (2_261, 2_242)
    assert len({row["group"] for row in part_of(rows, "testing")}) == 208
    # Joining divides no group.
    together = {(before["group"], after["group"]) for before, after in zip(unjoined_rows, rows)}  # noqa: B905
    assert len(together) == 2_261 + 208


def test_conflicts_are_found(irmas_rows: list[dict[str, Any]]) -> None:
    conflicts = find_conflicts(irmas_rows)
    assert all(len(conflict.clips) == 2 for conflict in conflicts)
    training = [c for c in conflicts if all("TrainingData" in clip for clip in c.clips)]
    testing = [c for c in conflicts if all("TestingData" in clip for clip in c.clips)]
    assert (len(training), len(testing), len(conflicts)) == (9, 10, 19)
    assert {frozenset(c.clips.values()) for c in training} == {frozenset({("gac",), ("gel",)})}
    group = {row["clip_id"]: row["group"] for row in irmas_rows}
    assert all(len({group[clip] for clip in c.clips}) == 1 for c in conflicts)


def test_conflicts_are_kept_or_dropped(irmas_rows: list[dict[str, Any]]) -> None:
    assert CorpusSettings().conflicts == "keep"
    kept = settle_conflicts(irmas_rows, "keep")
    assert not any(row["problem"] for row in irmas_rows)
    dropped = settle_conflicts(irmas_rows, "drop")
    assert dropped == kept
    problems = {row["clip_id"]: row["problem"] for row in irmas_rows if row["problem"]}
    assert problems.keys() == {clip for conflict in kept for clip in conflict.clips}
    assert len(problems) == 38
    first, second = kept[-1].clips
    assert problems[first] == f"conflicting labels: the same audio as {second}, which is gel"
    assert problems[second] == f"conflicting labels: the same audio as {first}, which is gac"


def test_no_song_spans_two_parts_of_the_test_set(irmas_rows: list[dict[str, Any]]) -> None:
    folders: dict[str, set[str]] = {}
    for excerpt in part_of(irmas_rows, "testing"):
        folder, _, stem = excerpt["clip_id"].rpartition("/")
        folders.setdefault(song_of(stem), set()).add(folder)
    assert len(folders) == 208
    assert all(len(places) == 1 for places in folders.values())


# Small manifests


def test_chains_of_identical_files_join_and_unknown_or_unusable_ones_do_not() -> None:
    rows = [
        row("a", "1", "pia", group="recording 1"),
        row("b", "2", "pia", group="recording 1"),
        row("c", "2", "pia", group="recording 2"),
        row("d", "3", "pia", group="recording 2"),
        row("e", "3", "pia", group="recording 3"),
        row("f", None, "pia"),
        row("g", None, "pia"),
        row("h", "4", "pia", problem="empty file"),
        row("i", "4", "pia", problem="empty file"),
    ]
    join_identical(rows)
    assert [row["group"] for row in rows] == [
        *["recording 1"] * 5, "file f", "file g", "file h", "file i"
    ]  # fmt: skip


def span(clip: str, start: float | None, end: float | None, group: str = "") -> dict[str, Any]:
    """Return the row of a span of one long file, which is given a group or is not."""
    given = {"group": f"group {group}"} if group else {}
    return row(
        clip, clip, "pia", file_md5="file", grouped=bool(group), start_s=start, end_s=end, **given
    )


def test_spans_of_a_file_that_overlap_are_in_one_group_whatever_the_table_says() -> None:
    rows = [
        span("whole of another", None, None, "9") | {"file_md5": "other"},
        span("b", 5.0, 15.0, "2"),
        span("a", None, 10.0, "1"),
        span("c", 15.0, 20.0, "3"),
        span("d", 18.0, None, "4"),
        span("e", 30.0, 31.0, "5"),
    ]
    join_identical(rows)
    assert [row["group"][-1] for row in rows] == ["9", "1", "1", "3", "3", "3"]


def test_a_span_without_a_group_is_of_its_file() -> None:
    rows = [span("a", 0.0, 10.0, "1"), span("b", 20.0, 30.0, "2"), span("c", 40.0, 50.0)]
    join_identical(rows)
    assert len({row["group"] for row in rows}) == 1
    rows = [span("a", 0.0, 10.0, "1"), span("b", 10.0, 30.0, "2")]
    join_identical(rows)
    assert len({row["group"] for row in rows}) == 2


def test_three_identical_files_are_one_conflict_and_the_order_of_codes_is_ignored() -> None:
    rows = [
        row("c", "1", "pia", "voi"),
        row("b", "1", "voi", "pia"),
        row("a", "1", "pia"),
        row("d", "2", "pia", "voi"),
        row("e", "2", "voi", "pia"),
        row("f", "3", "pia"),
        row("g", "3", "voi", problem="truncated"),
    ]
    clips = {"a": ("pia",), "b": ("voi", "pia"), "c": ("pia", "voi")}
    assert find_conflicts(rows) == [Conflict("1", clips)]
    settle_conflicts(rows, "drop")
    problem = "conflicting labels: the same audio as {}, which is {}"
    assert [row["problem"] for row in rows[:3]] == [
        problem.format("a", "pia"), problem.format("a", "pia"), problem.format("b", "voi, pia")
    ]  # fmt: skip


@pytest.mark.parametrize(("whole", "partly"), [("a", "b"), ("b", "a")])
def test_what_is_unknown_of_one_file_contradicts_no_other(whole: str, partly: str) -> None:
    rows = [
        row(whole, "1", "pia", "voi") | {"unknown": []},
        row(partly, "1", "pia") | {"unknown": ["voi"]},
    ]
    assert find_conflicts(rows) == []
    rows[1]["unknown"] = ["gac"]
    assert len(find_conflicts(rows)) == 1

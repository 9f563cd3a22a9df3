"""The difference between a manifest and any store: every clip once, and up to date."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.corpus.manifest import SCHEMA
from irmas_dist.features.diff import AUDIO, LABELS, MANIFEST, diff_store
from irmas_dist.features.store import REJECTS_SCHEMA, SHARD_SCHEMA, Shard
from irmas_dist.instruments import Vocabulary

VOCABULARY = Vocabulary.of({"a": "A", "b": "B", "c": "C"})
NO_REJECTS = REJECTS_SCHEMA.empty_table()

clip_ids = st.sampled_from("123456")
codes = st.lists(st.sampled_from("abcx"), unique=True, max_size=3)


@st.composite
def clips(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "clip_id": draw(clip_ids),
        "path": "a.wav",
        "part": draw(st.sampled_from(["training", "testing"])),
        "instruments": draw(codes),
        "unknown": [],
        "group": draw(st.sampled_from("gh")),
        "md5": draw(st.sampled_from(["0", "1", None])),
        "problem": draw(st.sampled_from([None, None, "empty file"])),
    }


manifests = st.lists(clips(), max_size=6, unique_by=lambda clip: clip["clip_id"]).map(
    lambda rows: pa.Table.from_pylist(rows, SCHEMA)
)
shards = st.lists(st.lists(clips(), min_size=1, max_size=4), max_size=4).map(
    lambda stored: [a_shard(f"part-{i}.parquet", rows) for i, rows in enumerate(stored)]
)
earlier_rejects = st.lists(clips(), max_size=3, unique_by=lambda clip: clip["clip_id"]).map(
    lambda rows: pa.Table.from_pylist(
        [{**row, "problem": "cannot be decoded", "found_in": AUDIO} for row in rows],
        REJECTS_SCHEMA,
    )
)


def a_shard(name: str, rows: list[dict[str, Any]]) -> Shard:
    known = [{**row, "instruments": set(row["instruments"]) - {"x"}} for row in rows]
    stored = [
        {"labels": VOCABULARY.encode(row["instruments"]).tolist(), "frames": 1} | row
        for row in known
    ]
    return Shard(
        name, "f", "float16", 0, np.zeros((2, 1)), pa.Table.from_pylist(stored, SHARD_SCHEMA)
    )


def row(clip_id: str = "1", **other: Any) -> dict[str, Any]:
    values = {
        "path": "a.wav",
        "part": "training",
        "instruments": ["a"],
        "unknown": [],
        "group": "g",
        "md5": "0",
    }
    return {"clip_id": clip_id, **values, **other}


def diff(manifest: list[dict[str, Any]], stored: list[list[dict[str, Any]]]):
    found = [a_shard(f"part-{i}.parquet", rows) for i, rows in enumerate(stored)]
    return diff_store(pa.Table.from_pylist(manifest, SCHEMA), found, NO_REJECTS, VOCABULARY)


@given(manifests, shards, earlier_rejects)
def test_every_clip_is_either_stored_computed_or_rejected(
    manifest: pa.Table, stored: list[Shard], rejects: pa.Table
) -> None:
    made = diff_store(manifest, stored, rejects, VOCABULARY)
    rewritten = {shard.name: kept for shard, kept in made.rewrites}
    stored_clips: list[tuple[Any, ...]] = []
    for shard in stored:
        for number, old in enumerate(shard.clips.to_pylist()):
            new = dict(old)
            if shard.name in rewritten:
                kept = {one["row"]: one for one in rewritten[shard.name].to_pylist()}
                if number not in kept:
                    continue
                new |= kept[number]
            stored_clips.append(
                (new["clip_id"], new["md5"], new["part"], new["group"], tuple(new["labels"]))
            )
    expected = {clip["clip_id"]: clip for clip in manifest.to_pylist()}
    for clip_id, md5, part, group, labels in stored_clips:
        clip = expected[clip_id]
        assert (md5, part, group) == (clip["md5"], clip["part"], clip["group"])
        assert labels == tuple(VOCABULARY.encode(clip["instruments"]))
        assert clip["problem"] is None
    ways = [
        *(one[0] for one in stored_clips),
        *made.pending.column("clip_id").to_pylist(),
        *made.rejects.column("clip_id").to_pylist(),
    ]
    assert sorted(ways) == sorted(expected)


@given(manifests)
def test_a_complete_store_needs_nothing(manifest: pa.Table) -> None:
    first = diff_store(manifest, [], NO_REJECTS, VOCABULARY)
    computed = first.pending.to_pylist()
    stored = [a_shard(f"part-{i}.parquet", [one]) for i, one in enumerate(computed)]
    again = diff_store(manifest, stored, first.rejects, VOCABULARY)
    assert (again.pending.num_rows, again.rewrites) == (0, [])
    assert again.rejects.equals(first.rejects)


def test_added_files_are_all_that_is_computed() -> None:
    made = diff([row("1"), row("2")], [[row("1")]])
    assert made.pending.column("clip_id").to_pylist() == ["2"]
    assert made.rewrites == []


def test_new_labels_are_written_without_computing() -> None:
    made = diff([row("1", instruments=["b"]), row("2")], [[row("1"), row("2")]])
    assert made.pending.num_rows == 0
    ((_, kept),) = made.rewrites
    assert kept.column("labels").to_pylist() == [[0, 1, 0], [1, 0, 0]]


def test_only_the_shard_of_a_changed_clip_is_rewritten() -> None:
    manifest = [row("1"), row("2"), row("3"), row("4", group="h"), row("5")]
    made = diff(manifest, [[row("1"), row("2")], [row("3"), row("4")], [row("5")]])
    ((shard, kept),) = made.rewrites
    assert shard.name == "part-1.parquet"
    assert kept.select(["row", "group"]).to_pylist() == [
        {"row": 0, "group": "g"}, {"row": 1, "group": "h"},
    ]  # fmt: skip


def test_a_changed_file_is_computed_again_and_its_old_row_removed() -> None:
    made = diff([row("1", md5="1"), row("2")], [[row("1"), row("2")]])
    assert made.pending.column("clip_id").to_pylist() == ["1"]
    ((_, kept),) = made.rewrites
    assert kept.column("row").to_pylist() == [1]


def test_a_clip_that_left_the_manifest_leaves_the_store() -> None:
    made = diff([row("2")], [[row("1")], [row("2")]])
    ((shard, kept),) = made.rewrites
    assert (shard.name, kept.num_rows) == ("part-0.parquet", 0)


def test_a_clip_in_two_shards_is_kept_in_one() -> None:
    made = diff([row("1"), row("2")], [[row("1")], [row("2"), row("1")]])
    ((shard, kept),) = made.rewrites
    assert (shard.name, kept.column("row").to_pylist()) == ("part-1.parquet", [0])
    assert made.pending.num_rows == 0


def test_a_reject_is_tried_again_once_its_file_has_changed() -> None:
    known = pa.Table.from_pylist(
        [{"clip_id": "1", "md5": "0", "problem": "cannot be decoded", "found_in": AUDIO}],
        REJECTS_SCHEMA,
    )
    for md5, pending in {"0": 0, "1": 1}.items():
        manifest = pa.Table.from_pylist([row("1", md5=md5)], SCHEMA)
        made = diff_store(manifest, [], known, VOCABULARY)
        assert (made.pending.num_rows, made.rejects.num_rows) == (pending, 1 - pending)


def test_rejects_name_where_the_problem_was_found() -> None:
    made = diff([row("1", problem="empty file"), row("2", instruments=["x"])], [])
    assert [(one["problem"], one["found_in"]) for one in made.rejects.to_pylist()] == [
        ("empty file", MANIFEST),
        ("labels: no instrument 'x' in this recipe (--config)", LABELS),
    ]


def test_what_becomes_known_is_written_without_computing() -> None:
    stored = [[row("1", labels=[1, None, 0]), row("2")]]
    made = diff([row("1"), row("2")], stored)
    assert made.pending.num_rows == 0
    ((_, kept),) = made.rewrites
    assert kept.column("labels").to_pylist() == [[1, 0, 0], [1, 0, 0]]
    assert diff([row("1", unknown=["b"]), row("2")], stored).rewrites == []

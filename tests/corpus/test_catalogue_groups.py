"""The whole of IRMAS, by its catalogue: every name parsed, every group and conflict found."""

import unicodedata
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

from irmas_dist.config.corpus import CorpusSettings, SplitSettings
from irmas_dist.corpus.catalogue import read_catalogue
from irmas_dist.corpus.groups import (
    Conflict,
    find_conflicts,
    join_identical,
    settle_conflicts,
)
from irmas_dist.corpus.index import parse_clip
from irmas_dist.corpus.names import ClipName, parse_training_name, song_of
from irmas_dist.corpus.split import held_out, k_folds
from irmas_dist.corpus.summary import summarise
from irmas_dist.instruments import IRMAS, Vocabulary

TRAINING_CLIPS = [388, 505, 451, 637, 760, 682, 721, 626, 577, 580, 778]
TESTING_LABELS = [111, 62, 163, 535, 942, 361, 995, 326, 167, 211, 1_044]


@pytest.fixture(scope="module")
def catalogue() -> list[dict[str, Any]]:
    """Rows as if the real files lay on disk, before groups are joined."""
    rows = []
    for entry in read_catalogue():
        path = PurePosixPath(unicodedata.normalize("NFC", entry.path))
        labels = "\t\n".join(entry.instruments) if entry.part == "testing" else None
        row = parse_clip(path.with_suffix("").as_posix(), path.parent.name, labels, IRMAS)
        assert row["part"] == entry.part
        assert row["instruments"] == list(entry.instruments)
        rows.append({**row, "md5": entry.md5, "duration_s": 3.0})
    return rows


@pytest.fixture
def rows(catalogue: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [dict(row) for row in catalogue]
    join_identical(rows)
    return rows


def part_of(rows: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["part"] == part]


def test_every_training_name_is_parsed(rows: list[dict[str, Any]]) -> None:
    training = part_of(rows, "training")
    names = [parse_training_name(row["clip_id"].rpartition("/")[2]) for row in training]
    parsed = [name for name in names if isinstance(name, ClipName)]
    assert len(parsed) == len(names) == 6_705
    assert [name.instrument for name in parsed] == [row["instruments"][0] for row in training]
    assert Counter(name.genre for name in parsed) == {
        "pop_roc": 2_476,
        "jaz_blu": 2_030,
        "cla": 1_675,
        "cou_fol": 482,
        "lat_sou": 42,
    }
    assert Counter(name.drums for name in parsed) == {False: 990, True: 892, None: 12 + 4_811}
    assert len({name.recording for name in parsed}) == 2_261


def test_nothing_is_wrong_with_any_file(rows: list[dict[str, Any]]) -> None:
    assert [row["problem"] for row in rows if row["problem"]] == []
    assert len({row["clip_id"] for row in rows}) == len(rows) == 6_705 + 2_874


def test_recordings_and_identical_files_join_into_groups(catalogue: list[dict[str, Any]]) -> None:
    by_name = {row["group"] for row in part_of(catalogue, "training")}
    rows = [dict(row) for row in catalogue]
    join_identical(rows)
    by_both = {row["group"] for row in part_of(rows, "training")}
    assert (len(by_name), len(by_both)) == (2_261, 2_242)
    assert len({row["group"] for row in part_of(rows, "testing")}) == 208
    # Joining only ever joins.
    together = {(before["group"], after["group"]) for before, after in zip(catalogue, rows)}  # noqa: B905
    assert len(together) == 2_261 + 208


def test_no_song_spans_two_parts_of_the_test_set(rows: list[dict[str, Any]]) -> None:
    folders: dict[str, set[str]] = {}
    for row in part_of(rows, "testing"):
        folder, _, stem = row["clip_id"].rpartition("/")
        folders.setdefault(song_of(stem), set()).add(folder)
    assert len(folders) == 208
    assert all(len(places) == 1 for places in folders.values())


def test_conflicts_are_found(rows: list[dict[str, Any]]) -> None:
    conflicts = find_conflicts(rows)
    assert all(len(conflict.clips) == 2 for conflict in conflicts)
    training = [c for c in conflicts if all("TrainingData" in clip for clip in c.clips)]
    testing = [c for c in conflicts if all("TestingData" in clip for clip in c.clips)]
    assert (len(training), len(testing), len(conflicts)) == (9, 10, 19)
    assert {frozenset(c.clips.values()) for c in training} == {frozenset({("gac",), ("gel",)})}
    group = {row["clip_id"]: row["group"] for row in rows}
    assert all(len({group[clip] for clip in c.clips}) == 1 for c in conflicts)


def test_conflicts_are_kept_or_dropped(rows: list[dict[str, Any]]) -> None:
    assert CorpusSettings().conflicts == "keep"
    kept = settle_conflicts(rows, "keep")
    assert not any(row["problem"] for row in rows)
    dropped = settle_conflicts(rows, "drop")
    assert dropped == kept
    problems = {row["clip_id"]: row["problem"] for row in rows if row["problem"]}
    assert problems.keys() == {clip for conflict in kept for clip in conflict.clips}
    assert len(problems) == 38
    first, second = kept[-1].clips
    assert problems[first] == f"conflicting labels: the same audio as {second}, which is gel"
    assert problems[second] == f"conflicting labels: the same audio as {first}, which is gac"


def test_the_summary_counts_them(rows: list[dict[str, Any]]) -> None:
    summary = summarise(rows, settle_conflicts(rows, "keep"), IRMAS)
    training = [of["training"] for of in summary.per_instrument.values()]
    testing = [of["testing"] for of in summary.per_instrument.values()]
    assert (training, testing) == (TRAINING_CLIPS, TESTING_LABELS)
    assert sum(testing) == 4_917
    assert summary.groups == {"training": 2_242, "testing": 208}
    assert summary.in_both_parts == []
    assert len(summary.conflicts) == 19
    hours = [of["training"] for of in summary.hours_per_instrument.values()]
    assert hours == pytest.approx([clips * 3 / 3_600 for clips in TRAINING_CLIPS])

    settle_conflicts(rows, "drop")
    summary = summarise(rows, [], IRMAS)
    assert summary.clips == 9_579 - 38
    assert summary.problem_kinds == {"conflicting labels": 38}


def split_input(rows: list[dict[str, Any]], part: str) -> tuple[list[str], np.ndarray]:
    found = part_of(rows, part)
    labels = np.stack([IRMAS.encode(row["instruments"]) for row in found])
    return [row["group"] for row in found], labels


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_the_training_part_is_held_out_in_proportion(
    rows: list[dict[str, Any]], share: float
) -> None:
    groups, labels = split_input(rows, "training")
    for seed in range(5):
        out = held_out(groups, labels, SplitSettings(validation=share, seed=seed))
        # Six clips are the largest group.
        assert (abs(labels[out].sum(axis=0) - share * labels.sum(axis=0)) <= 6).all()
        folds = k_folds(groups, labels, 5, seed)
        for fold in range(5):
            assert (abs(labels[folds == fold].sum(axis=0) - labels.sum(axis=0) / 5) <= 6).all()


def test_the_test_part_is_held_out_about_in_proportion(rows: list[dict[str, Any]]) -> None:
    groups, labels = split_input(rows, "testing")
    number = {name: index for index, name in enumerate(sorted(set(groups)))}
    songs = np.zeros((len(number), len(IRMAS)))
    np.add.at(songs, [number[name] for name in groups], labels)
    off, off_at_random = [], []
    for share in (0.15, 0.3, 0.5):
        for seed in range(40):
            settings = SplitSettings(validation=share, seed=seed)
            out = held_out(groups, labels, settings)
            missed = abs(labels[out].sum(axis=0) - share * labels.sum(axis=0))
            assert (missed <= 1.5 * songs.max(axis=0)).all()
            off.append(missed / labels.sum(axis=0))
            drawn = songs[np.random.default_rng(seed).random(len(songs)) < share].sum(axis=0)
            off_at_random.append(abs(drawn / labels.sum(axis=0) - share))
    assert np.mean(off) < 0.025
    assert np.mean(off_at_random) > 0.07


# Groups and conflicts apart from IRMAS


def row(clip: str, md5: str | None, *codes: str, **others: Any) -> dict[str, Any]:
    return {
        "clip_id": clip,
        "part": "training",
        "instruments": list(codes),
        "group": f"file {clip}",
        "md5": md5,
        "problem": None,
        "duration_s": 1.0,
    } | others


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


def test_three_identical_files_are_one_conflict_and_order_of_codes_is_none() -> None:
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


def test_the_summary_tells_groups_that_are_in_both_parts() -> None:
    rows = [row("a", "1", "pia"), row("b", "1", "pia", part="testing")]
    join_identical(rows)
    summary = summarise(rows, [], Vocabulary.of({"pia": "piano"}))
    assert summary.in_both_parts == ["file a"]
    assert summary.per_instrument == {"pia": {"training": 1, "testing": 1}}

"""The plan of a twin of OpenMIC-2018: its clips, labels and tables, against the facts."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.corpus.openmic import CLIPS, FOLDER, KNOWN, LABELS, OPENMIC
from irmas_dist.corpus.openmic_labels import KEY, find_openmic
from irmas_dist.rendering.openmic_twin import (
    OpenMicClip,
    openmic_clips,
    openmic_recordings,
    write_tables,
)


@pytest.fixture(scope="module")
def whole() -> list[OpenMicClip]:
    return openmic_clips()


def labels(clips: list[OpenMicClip], part: str) -> Counter[tuple[str, bool]]:
    return Counter(label for clip in clips if clip.part == part for label in clip.known.items())


def test_the_whole_has_each_part_s_clips_and_labels_of_each_instrument(
    whole: list[OpenMicClip],
) -> None:
    assert Counter(clip.part for clip in whole) == CLIPS
    for part in CLIPS:
        counts = labels(whole, part)
        for code, known in KNOWN.items():
            assert counts[code, True] == known[part].present
            assert counts[code, False] == known[part].absent
    assert {len(clip.known) for clip in whole} == {1, 2, 3, 4}


def test_keys_are_unique_and_like_those_of_the_data_set(whole: list[OpenMicClip]) -> None:
    assert all(KEY.fullmatch(clip.key) for clip in whole)
    assert len({clip.key[:6] for clip in whole}) == len(whole)


def test_what_plays_agrees_with_the_labels_and_some_of_it_has_none(
    whole: list[OpenMicClip],
) -> None:
    for clip in whole:
        assert 1 <= len(clip.plays) <= 5
        assert {code for code, present in clip.known.items() if present} <= set(clip.plays)
        assert not {code for code, present in clip.known.items() if not present} & set(clip.plays)
    unlabelled = sum(len(set(clip.plays) - clip.known.keys()) for clip in whole)
    assert unlabelled > sum(sum(clip.known.values()) for clip in whole)


def test_no_artist_is_in_both_parts(whole: list[OpenMicClip]) -> None:
    by_part = [{clip.artist for clip in whole if clip.part == part} for part in CLIPS]
    assert not set.intersection(*by_part)
    assert all(len(artists) > 1000 for artists in by_part)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1])
def test_a_fraction_has_its_share_of_each_label_and_is_part_of_any_larger_one(
    fraction: float, whole: list[OpenMicClip]
) -> None:
    part_of = openmic_clips(fraction)
    by_key = {clip.key: clip for clip in whole}
    assert all(by_key[clip.key] == clip for clip in part_of)
    for part, clips in CLIPS.items():
        taken = sum(clip.part == part for clip in part_of)
        assert taken == max(round(fraction * clips), taken if fraction == 0 else 0)
        counts = labels(part_of, part)
        for code, known in KNOWN.items():
            for present, count in ((True, known[part].present), (False, known[part].absent)):
                assert counts[code, present] >= 1
                assert counts[code, present] == pytest.approx(count * taken / clips, abs=2.5)


def test_another_seed_gives_other_clips() -> None:
    first, other = openmic_clips(0), openmic_clips(0, seed=1)
    assert not {clip.key for clip in first} & {clip.key for clip in other}


def test_recordings_have_their_clip_in_the_folder_of_its_key() -> None:
    clips = openmic_clips(0)
    for clip, recording in zip(clips, openmic_recordings(clips, 0), strict=True):
        [file] = recording.clips
        assert file.path == f"openmic-2018/audio/{clip.key[:3]}/{clip.key}.ogg"
        assert (file.instruments, file.duration_s) == (clip.plays, 10.0)
        assert recording.testing == (clip.part == TESTING)


def test_the_tables_say_what_is_planned(tmp_path: Path) -> None:
    clips = openmic_clips(0)
    write_tables(tmp_path, clips)
    found = find_openmic(tmp_path, OPENMIC)
    assert found
    rows = {clip_id.rpartition("/")[2]: row for clip_id, row in found.clips.items()}
    assert rows.keys() == {clip.key for clip in clips}
    for clip in clips:
        row = rows[clip.key]
        assert set(row["instruments"]) == {code for code, present in clip.known.items() if present}
        assert set(row["unknown"]) == {*OPENMIC.codes} - clip.known.keys()
        assert (row["part"], row["group"]) == (clip.part, f"artist {clip.artist}")
        assert row["problem"] is None
    lines = (tmp_path / FOLDER / LABELS).read_text().splitlines()
    assert lines[0] == "sample_key,instrument,relevance,num_responses"
    assert all(one < other for one, other in pairwise(lines[1:]))
    assert {TRAINING, TESTING} == {row["part"] for row in rows.values()}

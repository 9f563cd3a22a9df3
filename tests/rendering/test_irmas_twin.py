"""The recordings of a twin of IRMAS."""

import re
from collections import Counter
from collections.abc import Sequence

import pytest

from irmas_dist.corpus.catalogue import CatalogueEntry, read_catalogue
from irmas_dist.corpus.manifest import TRAINING
from irmas_dist.instruments import IRMAS
from irmas_dist.rendering.irmas_twin import irmas_recordings
from irmas_dist.rendering.recordings import Recording


@pytest.fixture(scope="module")
def shipped() -> list[CatalogueEntry]:
    return read_catalogue()


def names_of(recordings: Sequence[Recording]) -> set[str]:
    return {clip.path for recording in recordings for clip in recording.clips}


def test_a_twin_has_every_file_once_in_irmas_recordings(
    shipped: list[CatalogueEntry],
) -> None:
    recordings = irmas_recordings(shipped)
    assert Counter(recording.label_files for recording in recordings) == {False: 2242, True: 208}
    clips = [clip for recording in recordings for clip in recording.clips]
    assert Counter((clip.path, clip.instruments) for clip in clips) == Counter(
        (entry.path, entry.instruments) for entry in shipped
    )
    md5s = {entry.path: entry.md5 for entry in shipped}
    for recording in recordings:
        seconds = {clip.passage: clip.duration_s for clip in recording.clips}
        for clip in recording.clips:
            assert clip.duration_s == seconds[clip.passage]
            assert 5 <= clip.duration_s <= 20 if recording.label_files else clip.duration_s == 3
        files = {md5s[clip.path] or clip.path for clip in recording.clips}
        assert len(files) == len(seconds)
        assert len({(md5s[clip.path] or clip.path, clip.passage) for clip in recording.clips}) == (
            len(files)
        )


def test_a_twin_has_the_drums_and_the_genre_in_its_names(shipped: list[CatalogueEntry]) -> None:
    for recording in irmas_recordings([e for e in shipped if e.part == TRAINING]):
        tags = [re.findall(r"\[([^\]]*)\]", clip.path)[1:] for clip in recording.clips]
        annotated = {tag for clip in tags for tag in clip} & {"dru", "nod"}
        if annotated:
            assert recording.drums == ("dru" in annotated)
        if not (recording.drums and tags[0][-1] == "cla"):
            assert recording.genre in {clip[-1] for clip in tags}


def test_a_fraction_takes_whole_recordings_of_every_instrument(
    shipped: list[CatalogueEntry],
) -> None:
    def groups_by_instrument(recordings: Sequence[Recording]) -> Counter[str]:
        return Counter(
            code
            for recording in recordings
            if not recording.label_files
            for code in {code for clip in recording.clips for code in clip.instruments}
        )

    whole = irmas_recordings(shipped)
    part = irmas_recordings(shipped, 0.05)
    assert sum(recording.label_files for recording in part) == round(0.05 * 208)
    asked = {code: 0.05 * count for code, count in groups_by_instrument(whole).items()}
    for code, count in groups_by_instrument(part).items():
        assert count == pytest.approx(asked[code], abs=1.5), code
    assert {recording.key: recording for recording in whole}.items() >= {
        recording.key: recording for recording in part
    }.items()
    assert irmas_recordings(shipped[::-1], 0.05) == part

    assert names_of(irmas_recordings(shipped, 0.01)) < names_of(part)
    assert names_of(irmas_recordings(shipped, 0.05, seed=1)) != names_of(part)
    smallest = irmas_recordings(shipped, 0)
    assert set(groups_by_instrument(smallest)) == set(IRMAS.codes)
    assert sum(recording.label_files for recording in smallest) == 1

"""The catalogue of IRMAS as it is shipped, what may be in another, and the twin's recordings."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from irmas_dist.corpus.catalogue import CatalogueEntry, read_catalogue
from irmas_dist.corpus.irmas import GENRES
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.corpus.names import parse_training_name, song_of
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS
from irmas_dist.rendering.recordings import Recording
from irmas_dist.rendering.twin import plan_twin

TRAINING_CLIPS = dict(
    zip(IRMAS.codes, (388, 505, 451, 637, 760, 682, 721, 626, 577, 580, 778), strict=True)
)

GAC = "IRMAS-TrainingData/gac/001__[gac][dru][cou_fol]0001__1.wav"
GEL = "IRMAS-TrainingData/gel/002__[gel][nod][cou_fol]0002__1.wav"
GEL_MORE = "IRMAS-TrainingData/gel/002__[gel][nod][cou_fol]0002__2.wav"
PIA = "IRMAS-TrainingData/pia/[pia][cla]0003__1.wav"
SONG = "IRMAS-TestingData-Part3/Part3/06 - Déjà vu, 'live' #1 [x]"
TINY_TRAINING = f"path,md5\n{GAC},aa\n{GEL},aa\n{GEL_MORE},\n{PIA},\n"
TINY_TESTING = (
    "path,md5,instruments\n"
    f'"{SONG}-1.wav",cc,gac|voi\n"{SONG}-2.wav",cc,gac\n"{SONG}-10.wav",dd,voi\n'
)
"""Identical files with different labels in both parts, and a name that is not ASCII, in NFC."""


def write_catalogue(
    directory: Path, training: str = TINY_TRAINING, testing: str = TINY_TESTING
) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "training.csv").write_text(training, encoding="utf-8")
    (directory / "testing.csv").write_text(testing, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def shipped() -> list[CatalogueEntry]:
    return read_catalogue()


def of(part: str, entries: Sequence[CatalogueEntry]) -> list[CatalogueEntry]:
    return [entry for entry in entries if entry.part == part]


def stem(path: str) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(path).stem)


def identical(entries: Sequence[CatalogueEntry]) -> list[list[CatalogueEntry]]:
    files = defaultdict(list)
    for entry in entries:
        if entry.md5:
            files[entry.part, entry.md5].append(entry)
    return [same for same in files.values() if len(same) > 1]


# The catalogue that is shipped


def test_the_shipped_catalogue_lists_all_of_irmas(shipped: list[CatalogueEntry]) -> None:
    training, testing = of(TRAINING, shipped), of(TESTING, shipped)
    assert Counter(code for entry in training for code in entry.instruments) == TRAINING_CLIPS
    assert (len(training), len(testing)) == (6705, 2874)
    assert len({entry.path for entry in shipped}) == 6705 + 2874
    assert len({song_of(stem(entry.path)) for entry in testing}) == 208


def test_its_training_names_say_recording_genre_and_drums(shipped: list[CatalogueEntry]) -> None:
    genres: Counter[str] = Counter()
    drums: Counter[str] = Counter()
    for entry in of(TRAINING, shipped):
        instrument, *annotation, genre = re.findall(r"\[([^\]]*)\]", entry.path)
        assert (instrument,) == entry.instruments
        genres[genre] += 1
        drums.update(annotation)
    assert genres == GENRES
    assert drums == {"nod": 990, "dru": 892, "---": 12}
    names = [parse_training_name(stem(entry.path)) for entry in of(TRAINING, shipped)]
    assert len({name.recording for name in names if name}) == 2261


def test_it_knows_what_is_identical_and_what_is_not_ascii(shipped: list[CatalogueEntry]) -> None:
    same = identical(shipped)
    assert Counter((pair[0].part, len(pair)) for pair in same) == {
        (TRAINING, 2): 56,
        (TESTING, 2): 10,
    }
    conflicts = [pair for pair in same if pair[0].instruments != pair[1].instruments]
    assert Counter(pair[0].part for pair in conflicts) == {TRAINING: 9, TESTING: 10}
    assert Counter(entry.part for entry in shipped if entry.md5 is None) == {TRAINING: 45}
    foreign = [entry for entry in shipped if not entry.path.isascii()]
    assert len(foreign) == 36
    assert all(unicodedata.is_normalized("NFD", entry.path) for entry in foreign)


# Its recordings


def test_a_twin_has_every_file_once_in_the_recordings_that_there_are(
    shipped: list[CatalogueEntry],
) -> None:
    recordings = plan_twin(shipped)
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


def test_a_twin_has_the_drums_and_the_genre_that_names_tell(shipped: list[CatalogueEntry]) -> None:
    for recording in plan_twin(of(TRAINING, shipped)):
        tags = [re.findall(r"\[([^\]]*)\]", clip.path)[1:] for clip in recording.clips]
        said = {tag for clip in tags for tag in clip} & {"dru", "nod"}
        if said:
            assert recording.drums == ("dru" in said)
        if not (recording.drums and tags[0][-1] == "cla"):
            assert recording.genre in {clip[-1] for clip in tags}


def names_of(recordings: Sequence[Recording]) -> set[str]:
    return {clip.path for recording in recordings for clip in recording.clips}


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

    whole = plan_twin(shipped)
    part = plan_twin(shipped, 0.05)
    assert sum(recording.label_files for recording in part) == round(0.05 * 208)
    asked = {code: 0.05 * count for code, count in groups_by_instrument(whole).items()}
    for code, count in groups_by_instrument(part).items():
        assert count == pytest.approx(asked[code], abs=1.5), code
    assert {recording.key: recording for recording in whole}.items() >= {
        recording.key: recording for recording in part
    }.items()
    assert plan_twin(shipped[::-1], 0.05) == part

    assert names_of(plan_twin(shipped, 0.01)) < names_of(part)
    assert names_of(plan_twin(shipped, 0.05, seed=1)) != names_of(part)
    least = plan_twin(shipped, 0)
    assert set(groups_by_instrument(least)) == set(IRMAS.codes)
    assert sum(recording.label_files for recording in least) == 1


# What is refused


@pytest.mark.parametrize(
    ("training", "testing", "told"),
    [
        ("path\n" + PIA, TINY_TESTING, "training.csv has no column 'md5'; it needs path, md5"),
        ("", TINY_TESTING, "training.csv has no column 'path'; it needs path, md5"),
        (TINY_TRAINING, "path,md5\n", "testing.csv has no column 'instruments'; it needs path, "),
        (TINY_TRAINING + "a/kaz/1.wav,\n", TINY_TESTING, "csv, line 6: unknown instrument 'kaz'"),
        (TINY_TRAINING, TINY_TESTING + "1.wav,,gac|kaz\n", "csv, line 5: unknown instrument 'kaz'"),
        (TINY_TRAINING, TINY_TESTING + "a/1.wav,\n", "testing.csv, line 5: unknown instrument ''"),
        ("path,md5\n/pia/1.wav,\n", TINY_TESTING, "line 2: '/pia/1.wav' is not the path of a .wav"),
        ("path,md5\na/../../pia/1.wav,\n", TINY_TESTING, "pia/1.wav' is not the path of a .wav"),
        ("path,md5\npia/1.txt,\n", TINY_TESTING, "'pia/1.txt' is not the path of a .wav file"),
        ("path,md5\n,\n", TINY_TESTING, "'' is not the path of a .wav file below the tree's root"),
        (f"{TINY_TRAINING}{PIA},\n", TINY_TESTING, "0003__1.wav' more than once"),
        (f"{TINY_TRAINING}pia/1.wav,cc\n", TINY_TESTING, "the same md5 for \"IRMAS-TestingData-"),
        ("path,md5\n", "path,md5,instruments\n", "training.csv and testing.csv list no files"),
        ('path,md5\n"pia/1.wav', TINY_TESTING, "training.csv is not CSV in UTF-8: unexpected end"),
    ],
)  # fmt: skip
def test_a_wrong_catalogue_is_refused(
    training: str, testing: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(IrmasError) as refusal:
        read_catalogue(write_catalogue(tmp_path / "catalogue", training, testing))
    assert told in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_missing_or_unreadable_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match=r"^\S+training\.csv: no such file or directory$"):
        read_catalogue(tmp_path)
    catalogue = write_catalogue(tmp_path / "catalogue")
    (catalogue / "testing.csv").write_bytes(TINY_TESTING.encode("latin-1"))
    with pytest.raises(IrmasError, match=r"^\S+testing\.csv is not CSV in UTF-8: "):
        read_catalogue(catalogue)


def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    plain = read_catalogue(write_catalogue(tmp_path / "plain"))
    saved = [text.replace("\n", "\r\n") for text in ("\ufeff" + TINY_TRAINING, TINY_TESTING)]
    assert read_catalogue(write_catalogue(tmp_path / "saved", *saved)) == plain
    assert plain[0] == CatalogueEntry(GAC, "aa", TRAINING, ("gac",))
    assert replace(plain[2], path="") == CatalogueEntry("", None, TRAINING, ("gel",))

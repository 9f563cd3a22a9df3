"""The catalogue of IRMAS as it is shipped, and what another may contain."""

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
from tests.corpus.catalogues import GAC, PIA, TINY_TESTING, TINY_TRAINING, write_catalogue

TRAINING_CLIPS = dict(
    zip(IRMAS.codes, (388, 505, 451, 637, 760, 682, 721, 626, 577, 580, 778), strict=True)
)


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


# The shipped catalogue


def test_the_shipped_catalogue_lists_all_of_irmas(shipped: list[CatalogueEntry]) -> None:
    training, testing = of(TRAINING, shipped), of(TESTING, shipped)
    assert Counter(code for entry in training for code in entry.instruments) == TRAINING_CLIPS
    assert (len(training), len(testing)) == (6705, 2874)
    assert len({entry.path for entry in shipped}) == 6705 + 2874
    assert len({song_of(stem(entry.path)) for entry in testing}) == 208


def test_training_names_state_recording_genre_and_drums(shipped: list[CatalogueEntry]) -> None:
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


def test_it_lists_identical_files_and_names_beyond_ascii(shipped: list[CatalogueEntry]) -> None:
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


# Wrong catalogues


@pytest.mark.parametrize(
    ("training", "testing", "message"),
    [
        ("path\n" + PIA, TINY_TESTING, "training.csv has no column 'md5'; it needs path, md5"),
        ("", TINY_TESTING, "training.csv has no column 'path'; it needs path, md5"),
        (TINY_TRAINING, "path,md5\n", "testing.csv has no column 'instruments'; it needs path, "),
        (TINY_TRAINING + "a/kaz/1.wav,\n", TINY_TESTING, "csv, line 6: unknown instrument 'kaz'"),
        (TINY_TRAINING, TINY_TESTING + "1.wav,,gac|kaz\n", "csv, line 5: unknown instrument 'kaz'"),
        (TINY_TRAINING, TINY_TESTING + "a/1.wav,,\n", "testing.csv, line 5: unknown instrument ''"),
        (TINY_TRAINING, TINY_TESTING + "a/1.wav,\n", "line 5: not as many values as columns"),
        ("path,md5\n/pia/1.wav,\n", TINY_TESTING, "line 2: '/pia/1.wav' is not the path of a .wav"),
        ("path,md5\na/../../pia/1.wav,\n", TINY_TESTING, "pia/1.wav' is not the path of a .wav"),
        ("path,md5\npia/1.txt,\n", TINY_TESTING, "'pia/1.txt' is not the path of a .wav file"),
        ("path,md5\n,a\n", TINY_TESTING, "'' is not the path of a .wav file below the tree's"),
        (f"{TINY_TRAINING}{PIA},\n", TINY_TESTING, "0003__1.wav' more than once"),
        (f"{TINY_TRAINING}pia/1.wav,cc\n", TINY_TESTING, "the same md5 for \"IRMAS-TestingData-"),
        ("path,md5\n", "path,md5,instruments\n", "training.csv and testing.csv list no files"),
        ('path,md5\n"pia/1.wav', TINY_TESTING, "training.csv is not CSV in UTF-8: unexpected end"),
    ],
)  # fmt: skip
def test_a_wrong_catalogue_is_refused(
    training: str, testing: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(IrmasError) as refusal:
        read_catalogue(write_catalogue(tmp_path / "catalogue", training, testing))
    assert message in str(refusal.value)
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

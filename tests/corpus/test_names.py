"""Names and label files are read by position, whatever else is in them."""

import re
import unicodedata
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.corpus import irmas
from irmas_dist.corpus.names import (
    ClipName,
    parse_training_name,
    read_labels,
    recording_of,
    song_of,
)
from irmas_dist.instruments import IRMAS
from tests.corpus.manifests import part_of

CODES = st.sampled_from(IRMAS.codes)
GENRES = st.sampled_from(["pop_roc", "jaz_blu", "cla", "cou_fol", "lat_sou"])
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@given(
    instrument=CODES,
    genre=GENRES,
    drums=st.sampled_from([("", None), ("[dru]", True), ("[nod]", False), ("[---]", None)]),
    recording=st.integers(0, 9_999),
    clip=st.integers(1, 3),
)
def test_the_instrument_is_the_first_tag_and_the_genre_the_last(
    instrument: str, genre: str, drums: tuple[str, bool | None], recording: int, clip: int
) -> None:
    tag, known = drums
    prefix = f"{recording:03d}__" if tag else ""
    stem = f"{prefix}[{instrument}]{tag}[{genre}]{recording:04d}__{clip}"
    assert parse_training_name(stem) == ClipName(instrument, genre, known, f"{recording:04d}")
    assert recording_of(stem) == f"{recording:04d}"


@pytest.mark.parametrize(
    "stem",
    [
        "",
        "0001__1",
        "[cel]0001__1",
        "[cel][nod][cla][x]0001__1",
        "[cel][cla]0001",
        "[cel][cla]__1",
        "[cel][cla]0001__1 copy",
        "x[cel][cla]0001__1",
        "[cel][cla]\u0660\u0660__1",
    ],
)
def test_other_names_are_not_mistaken_for_training_names(stem: str) -> None:
    assert parse_training_name(stem) is None


@given(TEXT)
def test_any_name_can_be_parsed(stem: str) -> None:
    parse_training_name(stem)
    recording_of(stem)
    assert stem.startswith(song_of(stem))


@given(TEXT.filter(lambda name: name and not parse_training_name(f"{name}__1")), st.integers(0, 99))
def test_other_clips_end_in_the_number_after_their_recording(name: str, clip: int) -> None:
    assert recording_of(f"{name}__{clip}") == name
    assert recording_of(f"{name}__") is None


@given(TEXT.filter(bool), st.integers(0, 99))
def test_a_song_is_the_name_without_the_number(song: str, excerpt: int) -> None:
    assert song_of(f"{song}-{excerpt}") == song


def test_a_song_whose_name_has_numbers_keeps_them() -> None:
    assert song_of("(02) dont kill the whale-11") == "(02) dont kill the whale"
    assert song_of("01 - Prelude-2 - 03-7") == "01 - Prelude-2 - 03"
    assert song_of("untitled") == "untitled"


SPACE = st.text(" \t", max_size=3)
END = st.sampled_from(["\n", "\t\n", "\r\n", "\r", "\n\n", "\n \t\r\n"])


@given(st.lists(CODES), st.data(), st.booleans())
def test_label_files_may_have_odd_white_space(
    codes: list[str], data: st.DataObject, marked: bool
) -> None:
    text = "".join(data.draw(SPACE) + code + data.draw(SPACE) + data.draw(END) for code in codes)
    if data.draw(st.booleans(), "last line not ended"):
        text = re.sub(r"\s+$", "", text)
    content = text.encode("utf-8-sig" if marked else "utf-8")
    assert read_labels(content) == list(dict.fromkeys(codes))
    assert read_labels(content.decode()) == list(dict.fromkeys(codes))


@given(st.binary())
def test_any_bytes_can_be_read_as_labels(content: bytes) -> None:
    codes = read_labels(content)
    assert all(code == code.strip() != "" for code in codes)
    assert len(set(codes)) == len(codes)


def test_a_line_is_one_code() -> None:
    assert read_labels("pia gel\nvoi") == ["pia gel", "voi"]
    assert read_labels(b"pia\n\xff") == ["pia", "\ufffd"]
    assert read_labels(unicodedata.normalize("NFD", "flöte\n")) == ["flöte"]


# All of IRMAS


def test_every_training_name_is_parsed(irmas_rows: list[dict[str, Any]]) -> None:
    training = part_of(irmas_rows, "training")
    names = [parse_training_name(row["clip_id"].rpartition("/")[2]) for row in training]
    parsed = [name for name in names if isinstance(name, ClipName)]
    assert len(parsed) == len(names) == 6_705
    assert [name.instrument for name in parsed] == [row["instruments"][0] for row in training]
    assert Counter(name.genre for name in parsed) == irmas.GENRES
    assert Counter(name.drums for name in parsed) == {False: 990, True: 892, None: 12 + 4_811}
    assert len({name.recording for name in parsed}) == 2_261

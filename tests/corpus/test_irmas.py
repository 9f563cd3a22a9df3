"""Reading trees: labels by position, groups that cannot leak, a row for every file."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.corpus.irmas import index_tree, parse_training_name, read_labels, song_of
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS


def wav(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.1, 0.1, 2_000), 44_100)
    return path


@given(
    instrument=st.sampled_from(IRMAS.codes),
    genre=st.sampled_from(["pop_roc", "jaz_blu", "cla", "cou_fol", "lat_sou"]),
    drums=st.sampled_from(["", "[dru]", "[nod]", "[---]"]),
    recording=st.integers(0, 9_999),
    clip=st.integers(1, 3),
)
def test_the_instrument_is_the_first_tag_whatever_the_genre_is(
    instrument: str, genre: str, drums: str, recording: int, clip: int
) -> None:
    prefix = f"{recording:03d}__" if drums else ""
    name = parse_training_name(f"{prefix}[{instrument}]{drums}[{genre}]{recording:04d}__{clip}")
    assert name is not None
    assert (name.instrument, name.recording) == (instrument, f"{recording:04d}")


@given(
    st.lists(st.sampled_from(IRMAS.codes), unique=True), st.sampled_from(["\n", "\t\n", " \r\n"])
)
def test_label_files_may_have_odd_white_space(codes: list[str], end: str) -> None:
    assert read_labels("".join(code + end for code in codes)) == codes


def test_a_song_is_its_name_less_the_number() -> None:
    assert song_of("(02) dont kill the whale-11") == "(02) dont kill the whale"
    assert song_of("01 - Prelude-2 - 03-7") == "01 - Prelude-2 - 03"


def test_a_rendered_tree_has_a_row_for_every_file(tree: Path) -> None:
    rows = index_tree(tree)
    assert len(rows) == len(list(tree.rglob("*.wav")))
    assert not [row["problem"] for row in rows if row["problem"]]
    for row in rows:
        path = Path(row["path"])
        assert row["clip_id"] == unicodedata.normalize("NFC", row["clip_id"])
        if row["part"] == "training":
            assert row["instruments"] == [path.parent.name]
            assert row["duration_s"] == pytest.approx(3.0)
        else:
            assert row["instruments"] == path.with_suffix(".txt").read_text().split()


def test_clips_of_one_recording_share_a_group_and_so_do_identical_files(tmp_path: Path) -> None:
    train = tmp_path / "IRMAS-TrainingData"
    one = wav(train / "pia" / "[pia][cla]0001__1.wav", 1)
    wav(train / "pia" / "[pia][cla]0001__2.wav", 2)
    wav(train / "pia" / "[pia][cla]0002__1.wav", 3)
    shutil.copy(one, train / "pia" / "[pia][cla]0003__1.wav")
    wav(train / "pia" / "[pia][cla]0003__2.wav", 4)
    groups = {row["clip_id"].rsplit("/", 1)[1]: row["group"] for row in index_tree(tmp_path)}
    joined = {groups[f"[pia][cla]000{r}__{k}"] for r, k in ((1, 1), (1, 2), (3, 1), (3, 2))}
    assert len(joined) == 1
    assert groups["[pia][cla]0002__1"] not in joined


def test_what_cannot_be_used_says_why_and_is_not_dropped(tmp_path: Path) -> None:
    (tmp_path / "pia").mkdir()
    (tmp_path / "pia" / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "pia" / "empty.wav", np.zeros(0), 44_100)
    wav(tmp_path / "vio" / "[pia][cla]0001__1.wav")
    wav(tmp_path / "Part1" / "unlabelled-1.wav")
    wav(tmp_path / "Part1" / "odd-1.wav").with_suffix(".txt").write_text("gong\n")
    wav(tmp_path / "Part1" / "blank-1.wav").with_suffix(".txt").write_text("\n")
    problems = {Path(row["path"]).name: row["problem"] for row in index_tree(tmp_path)}
    assert {name: problem.split(":")[0] for name, problem in problems.items()} == {
        "text.wav": "cannot be read as audio",
        "empty.wav": "holds no samples",
        "[pia][cla]0001__1.wav": "lies in the folder of vio but is named pia",
        "unlabelled-1.wav": "no label file beside it, and its folder is no instrument's",
        "odd-1.wav": "unknown instrument 'gong' in its label file",
        "blank-1.wav": "its label file is empty",
    }


def test_an_empty_tree_and_a_missing_one_are_errors(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match="holds no audio files"):
        index_tree(tmp_path)
    with pytest.raises(IrmasError, match="no such directory"):
        index_tree(tmp_path / "missing")

"""Indexing: a row for every file, with the reason why it is unusable, the same with Ray."""

import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.corpus import index
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import SCHEMA, read_manifest, write_manifest
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import Vocabulary
from tests.corpus.trees import NFC, NFD, excerpt, wav


def indexed(tree: Path, *arguments: Any) -> dict[str, dict[str, Any]]:
    """Rows by clip_id, checked to make a manifest."""
    rows = index_tree(tree, *arguments)
    write_manifest(tree.parent / "m.parquet", rows)
    assert read_manifest(tree.parent / "m.parquet").schema == SCHEMA
    return {row["clip_id"]: row for row in rows}


def problems(tree: Path, *arguments: Any) -> dict[str, str | None]:
    return {clip: row["problem"] for clip, row in indexed(tree, *arguments).items()}


# Rows


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


@pytest.mark.parametrize("part", ["IRMAS-TrainingData", "IRMAS-TrainingData/pia", "."])
def test_any_part_of_a_tree_can_be_read(
    tree: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree / "IRMAS-TrainingData" / "pia" if part == "." else tree)
    rows = index_tree(Path(part))
    assert rows
    assert not any(row["problem"] for row in rows)
    assert all(Path(row["path"]).is_absolute() for row in rows)


def test_another_tree_has_its_own_instruments_and_groups(root: Path) -> None:
    wav(root / "kazoo" / "solo__1.wav", 1)
    wav(root / "kazoo" / "solo__2.wav", 2)
    wav(root / "flöte" / "x.wav", 3)
    excerpt(root / "duos" / "duo-1.wav", "kazoo\nflöte\n", 4)
    rows = indexed(root, Vocabulary.of({"kazoo": "kazoo", "flöte": "flute"}))
    assert {
        clip: (row["part"], row["instruments"], row["group"], row["problem"])
        for clip, row in rows.items()
    } == {
        "kazoo/solo__1": ("training", ["kazoo"], "recording solo", None),
        "kazoo/solo__2": ("training", ["kazoo"], "recording solo", None),
        "flöte/x": ("training", ["flöte"], "file flöte/x", None),
        "duos/duo-1": ("testing", ["kazoo", "flöte"], "song duo", None),
    }


def test_clips_of_one_recording_share_a_group_and_so_do_identical_files(root: Path) -> None:
    one = wav(root / "pia" / "[pia][cla]0001__1.wav", 1)
    wav(root / "pia" / "[pia][cla]0001__2.wav", 2)
    wav(root / "pia" / "[pia][cla]0002__1.wav", 3)
    shutil.copy(one, root / "pia" / "[pia][cla]0003__1.wav")
    wav(root / "pia" / "[pia][cla]0003__2.wav", 4)
    groups = {clip.removeprefix("pia/"): row["group"] for clip, row in indexed(root).items()}
    joined = {groups[f"[pia][cla]000{r}__{k}"] for r, k in ((1, 1), (1, 2), (3, 1), (3, 2))}
    assert len(joined) == 1
    assert groups["[pia][cla]0002__1"] not in joined


# Names


def test_unusual_names_are_read(root: Path) -> None:
    for name in ("it's #1, [x] {y} *?-1", "a.b.c-2", "ünï cødé-3", NFD, "line\nbreak-4"):
        excerpt(root / "Part1" / f"{name}.wav", "pia\n", len(name))
    wav(root / "pia" / "[pia][cla]0001__1.WAV")
    rows = indexed(root)
    assert not any(row["problem"] for row in rows.values())
    assert rows[f"Part1/{NFC}"]["path"].endswith(f"{NFD}.wav")
    assert rows["Part1/a.b.c-2"]["group"] == "song a.b.c"
    assert "pia/[pia][cla]0001__1" in rows


def test_a_name_that_is_not_utf_8_is_a_problem(root: Path) -> None:
    wav(root / "pia" / "a.wav")
    try:
        shutil.copy(root / "pia" / "a.wav", os.fsencode(root / "pia") + b"/\xff.wav")
    except OSError:
        pytest.skip("this file system has none")
    rows = indexed(root)
    assert rows["pia/?"]["problem"] == "its name is not UTF-8"
    assert rows["pia/?"]["duration_s"] == rows["pia/a"]["duration_s"]


def test_two_files_of_one_name_have_different_ids(root: Path) -> None:
    wav(root / "pia" / "a.wav", 1)
    wav(root / "pia" / "a.flac", 2)
    wav(root / "pia" / "b.wav", 3)
    (root / "pia" / "b.aif").write_bytes(b"")
    wav(root / "pia" / "b (2).wav", 4)
    found = problems(root)
    flac = root / "pia" / "a.flac"
    assert found == {
        "pia/a": None,
        "pia/a (2)": f"another file has the same name: {flac}; rename one",
        "pia/b": None,
        "pia/b (2)": None,
        "pia/b (3)": "empty file",
    }


def test_names_that_differ_in_unicode_form_have_their_own_ids_and_labels(root: Path) -> None:
    excerpt(root / f"{NFC}.wav", "pia\n", 1)
    excerpt(root / f"{NFD}.wav", "voi\n", 2)
    if len(list(root.iterdir())) < 4:
        pytest.skip("this file system takes them for one")
    rows = indexed(root)
    assert {clip: row["instruments"] for clip, row in rows.items()} == {
        NFC: ["voi"],
        f"{NFC} (2)": ["pia"],
    }
    assert rows[f"{NFC} (2)"]["problem"].startswith("another file has the same name")


# Unusable files


def test_unusable_files_have_a_row_with_the_reason(root: Path) -> None:
    (root / "pia").mkdir()
    (root / "pia" / "text.wav").write_text("no audio")
    (root / "pia" / "header.wav").write_bytes(b"RIFF, and then nothing")
    (root / "pia" / "zero.wav").write_bytes(b"")
    (root / "pia" / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (root / "pia" / "gone.wav").symlink_to(root / "nowhere")
    soundfile.write(root / "pia" / "silent.wav", np.zeros(0), 44_100)
    wav(root / "vio" / "[pia][cla]0001__1.wav", 1)
    wav(root / "Part1" / "unlabelled-1.wav", 2)
    excerpt(root / "Part1" / "odd-1.wav", "pia\ngong\n", 3)
    excerpt(root / "Part1" / "two-1.wav", "pia gel\n", 4)
    excerpt(root / "Part1" / "blank-1.wav", b"\xef\xbb\xbf\r\n\t\r\n", 5)
    (root / "Part1" / "lost-1.txt").write_text("pia\nvoi\n")
    wav(root / "Part1" / "folder-1.wav", 6)
    (root / "Part1" / "folder-1.txt").mkdir()
    (root / "pia" / "notes.txt").write_text("in tune")
    (root / "README.txt").write_text("Piano and violin, in two lines:\npia and vio\n")
    unknown = "unknown instrument in its label file: "
    phone = (
        "is MPEG-4 audio (AAC or ALAC), which cannot be decoded: convert it, "
        "for example with 'ffmpeg -i FILE FILE.wav'"
    )
    assert problems(root) == {
        "pia/text": "cannot be decoded: Format not recognised",
        "pia/header": "cannot be decoded: Format not recognised",
        "pia/zero": "empty file",
        "pia/phone": phone,
        "pia/gone": "no such file",
        "pia/silent": "holds no samples",
        "vio/[pia][cla]0001__1": "name and folder disagree: pia in the folder of vio",
        "Part1/unlabelled-1": "no label file beside it, and its folder names no instrument",
        "Part1/odd-1": unknown + "'gong'",
        "Part1/two-1": unknown + "'pia gel'",
        "Part1/blank-1": "its label file is empty",
        "Part1/lost-1": "label file without audio",
        "Part1/folder-1": "no label file beside it, and its folder names no instrument",
    }
    lost = indexed(root)["Part1/lost-1"]
    assert lost["instruments"] == ["pia", "voi"]
    assert lost["path"] == str(root / "Part1" / "lost-1.txt")
    assert lost["part"] == "testing"


def test_empty_files_of_different_recordings_join_nothing(root: Path) -> None:
    (root / "pia").mkdir()
    for name in ("x__1", "x__2", "y__1"):
        (root / "pia" / f"{name}.wav").write_bytes(b"")
        wav(root / "pia" / f"{name}b.wav", len(name))
    rows = indexed(root)
    assert rows["pia/x__1"]["group"] == rows["pia/x__2"]["group"] != rows["pia/y__1"]["group"]


def test_a_label_file_that_is_a_pipe_is_a_problem(root: Path) -> None:
    """It might never end."""
    labels = excerpt(root / "a-1.wav", "pia").with_suffix(".txt")
    labels.unlink()
    os.mkfifo(labels)
    assert problems(root) == {"a-1": "its label file cannot be read: not a file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_label_file_that_may_not_be_read_is_a_problem(root: Path) -> None:
    excerpt(root / "a-1.wav", "pia").with_suffix(".txt").chmod(0o000)
    assert problems(root) == {"a-1": "its label file cannot be read: Permission denied"}


@settings(max_examples=80)
@given(data=st.data())
def test_any_damage_ends_in_a_row(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged" / "pia"
    path = folder / "a.wav"
    content = bytearray(wav(path, subtype="PCM_16").read_bytes())
    for at, byte in data.draw(st.dictionaries(st.integers(0, 60), st.integers(0, 255))).items():
        content[at] = byte
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    (row,) = indexed(folder.parent).values()
    assert row["problem"] or row["duration_s"] > 0


# With Ray


@pytest.mark.usefixtures("ray_cluster")
def test_the_rows_are_the_same_with_ray(
    tree: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tree, root, dirs_exist_ok=True)
    (root / "IRMAS-TrainingData" / "pia" / "empty.wav").write_bytes(b"")
    excerpt(root / f"{NFD}.wav", "gong\n")
    (root / "lost-1.txt").write_text("pia\n")
    (root / "README.txt").write_text("nothing\n")
    here = index_tree(root)
    monkeypatch.setattr(index, "BATCH_FILES", 7)
    assert index_tree(root, address="auto") == here
    monkeypatch.setattr(index, "RAY_FROM_FILES", len(here))
    monkeypatch.setattr(index, "_read_with_threads", None)
    assert index_tree(root) == here


@pytest.mark.usefixtures("ray_cluster")
def test_a_tree_that_the_cluster_does_not_see_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav(root / "pia" / "a.wav")
    found = index.find_files(root)

    def find_and_hide(tree: Path, _: Collection[str]) -> list[index.TreeFile]:
        tree.rename(tree.with_name("hidden"))
        return found

    monkeypatch.setattr(index, "find_files", find_and_hide)
    with pytest.raises(IrmasError, match=r"a node of the cluster does not see .*/tree; put the"):
        index_tree(root, address="auto")


# All of IRMAS


def test_no_file_of_irmas_has_a_problem(irmas_rows: list[dict[str, Any]]) -> None:
    assert [row["problem"] for row in irmas_rows if row["problem"]] == []
    assert len({row["clip_id"] for row in irmas_rows}) == len(irmas_rows) == 6_705 + 2_874


# Imports


def test_indexing_needs_no_pytorch(root: Path) -> None:
    wav(root / "pia" / "a.wav")
    code = (
        "import sys; from irmas_dist.cli.main import run\n"
        "status = run(['index', 'tree', '--json'])\n"
        "sys.exit(status or ('torch' in sys.modules) or ('ray' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root.parent,
        env={**os.environ, "PYTHONPATH": str(Path(index.__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '"clips": 1' in done.stdout

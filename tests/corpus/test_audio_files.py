"""The files of a tree: links followed, hidden ones left out, labels found by name."""

import os
from pathlib import Path

import pytest

from irmas_dist.corpus.audio_files import audio_in, find_files
from irmas_dist.errors import IrmasError
from tests.corpus.trees import NFC, NFD, wav


def ids(tree: Path) -> list[str]:
    return [file.clip_id for file in find_files(tree)]


def test_links_are_followed_but_not_in_circles(root: Path, tmp_path: Path) -> None:
    wav(tmp_path / "elsewhere" / "pia" / "a.wav")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    assert ids(root) == ["linked/pia/a"]


def test_folders_that_link_to_each_other_are_read_once(root: Path) -> None:
    names = "ABCDEFG"
    for name in names:
        wav(root / name / "pia" / f"{name}.wav")
        for other in names:
            (root / name / f"to-{other}").symlink_to(root / other)
    assert ids(root) == [f"{name}/pia/{name}" for name in names]
    assert audio_in(root) == [f"{name}/pia/{name}.wav" for name in names]


def test_of_a_link_and_its_target_the_target_names_the_files(root: Path) -> None:
    wav(root / "v2" / "pia" / "a.wav")
    (root / "current").symlink_to("v2")
    (root / "piano").symlink_to("v2/pia")
    assert ids(root) == ["v2/pia/a"]


def test_a_link_named_for_an_instrument_names_the_files_of_its_target(root: Path) -> None:
    wav(root / "my piano" / "a.wav")
    for name in ("all keys", "pia"):
        (root / name).symlink_to("my piano")
    assert [file.folder for file in find_files(root, ["pia", "vio"])] == ["pia"]


def test_a_link_to_itself_costs_no_other_file(root: Path) -> None:
    wav(root / "pia" / "a.wav")
    (root / "pia" / "b.wav").symlink_to("b.wav")
    assert ids(root) == ["pia/a", "pia/b"]


def test_hidden_files_and_folders_are_skipped(root: Path) -> None:
    wav(root / "pia" / "a.wav")
    wav(root / ".trash" / "pia" / "b.wav")
    (root / "pia" / "._a.wav").write_bytes(b"\0\5\26\7")
    assert ids(root) == ["pia/a"]


def test_an_empty_tree_and_a_missing_one_are_errors(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("pia")
    with pytest.raises(IrmasError, match="holds no audio files"):
        find_files(tmp_path)
    with pytest.raises(IrmasError, match="no such directory"):
        find_files(tmp_path / "missing")
    with pytest.raises(
        IrmasError, match=r"readme\.txt is a file: name the directory that holds it"
    ):
        find_files(tmp_path / "readme.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_read_is_an_error(root: Path) -> None:
    wav(root / "pia" / "a.wav")
    (root / "vio").mkdir(mode=0o000)
    with pytest.raises(IrmasError, match=r"vio: Permission denied"):
        find_files(root)


@pytest.mark.parametrize(("audio", "label"), [(NFC, NFD), (NFD, NFC), (NFD, NFD)])
def test_labels_are_found_however_their_name_is_composed(
    root: Path, audio: str, label: str
) -> None:
    wav(root / f"{audio}.wav")
    (root / f"{label}.txt").write_text("vio\n")
    (file,) = find_files(root)
    assert file.clip_id == NFC
    assert file.labels
    assert Path(file.labels).read_text() == "vio\n"


def test_audio_is_listed_relative_to_its_folder(root: Path) -> None:
    for name in ("pia/b.FLAC", "pia/a.wav", "c.mp3", ".hidden/d.wav"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / "pia" / "notes.txt").touch()
    assert audio_in(root) == ["c.mp3", "pia/a.wav", "pia/b.FLAC"]

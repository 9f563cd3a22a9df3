"""Extracting: an archive becomes its folder atomically, and nothing else."""

import os
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from irmas_dist.corpus.archives import Archive
from irmas_dist.corpus.unpack import extract_archives, is_extracted
from irmas_dist.errors import IrmasError
from tests.corpus.archives import grow, tarred, tree, zipped

A = Archive("a.zip", "an md5, which extracting does not check", "training", 1)
TAR = Archive("a-v1.0.0.tgz", A.md5, None, 1, inner="a")


def extract(out: Path, content: bytes, archive: Archive = A) -> int:
    """Extract an archive with this content in ``out``."""
    out.mkdir(exist_ok=True)
    (out / archive.name).write_bytes(content)
    return extract_archives([archive], out, keep_archives=False)


def refusal(out: Path, content: bytes, archive: Archive = A) -> str:
    with pytest.raises(IrmasError) as caught:
        extract(out, content, archive)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is extracted


def test_junk_of_macos_is_not_extracted(tmp_path: Path) -> None:
    entries = {"a/.DS_Store": b"x", "a/._b.wav": b"x", "__MACOSX/a/._b.wav": b"x", "a/b.wav": b"x"}
    assert extract(tmp_path, zipped(entries)) == 1
    assert tree(tmp_path) == {"a/b.wav", "a/.download.json"}


class UnflaggedInfo(zipfile.ZipInfo):
    """An entry as macOS writes it: UTF-8, without the flag for it."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.filename.encode(), self.flag_bits & ~0x800


@pytest.mark.parametrize("kind", [zipfile.ZipInfo, UnflaggedInfo], ids=["flagged", "unflagged"])
def test_decomposed_names_survive(tmp_path: Path, kind: type[zipfile.ZipInfo]) -> None:
    name = unicodedata.normalize("NFD", "Béla Bartók, Für Kinder-1.wav")
    extract(tmp_path, zipped([(kind(f"Part1/{name}"), b"x")]))
    assert os.listdir(tmp_path / "a" / "Part1") == [name]  # noqa: PTH208 - the bytes on disk
    assert is_extracted(A, tmp_path)


def test_names_in_the_old_encoding_of_zip_files_are_read_as_such(tmp_path: Path) -> None:
    content = zipped({"a/B_la.wav": b"x"}).replace(b"B_la", "Béla".encode("cp437"))
    extract(tmp_path, content)
    assert "a/Béla.wav" in tree(tmp_path)


def test_a_compressed_tar_file_becomes_its_inner_folder(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("./a/audio")
    folder.type = tarfile.DIRTYPE
    entries = [
        (folder, b""),
        (tarfile.TarInfo("./a/._labels.csv"), b"junk of macOS"),
        (tarfile.TarInfo("./._a"), b"junk of macOS"),
        (tarfile.TarInfo("./a/audio/000/b.ogg"), b"second" * 20_000),
        (tarfile.TarInfo("./a/labels.csv"), b"first"),
    ]
    assert extract(tmp_path, tarred(entries), TAR) == 2
    assert tree(tmp_path) == {"a/audio/000/b.ogg", "a/labels.csv", "a/.download.json"}
    assert (tmp_path / "a" / "audio" / "000" / "b.ogg").read_bytes() == b"second" * 20_000
    assert is_extracted(TAR, tmp_path)
    (tmp_path / "a" / "labels.csv").unlink()
    assert not is_extracted(TAR, tmp_path)


# Archives that are not safe to extract


def symlink(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize("content", ["{}", "[]", f'{{"md5": "{A.md5}", "files": []}}'])
def test_a_marker_of_another_kind_is_to_be_deleted(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".download.json").write_text(content)
    with pytest.raises(IrmasError, match=r"a/\.download\.json is damaged \(.*\); delete it$"):
        is_extracted(A, tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        zipfile.ZipInfo("../evil.wav"),
        zipfile.ZipInfo("a/../../evil.wav"),
        zipfile.ZipInfo("__MACOSX/../../evil.wav"),
        zipfile.ZipInfo("/tmp/evil.wav"),
        symlink("a/evil.wav"),
    ],
    ids=lambda info: info.filename,
)
def test_no_entry_is_extracted_outside_the_folder(tmp_path: Path, entry: zipfile.ZipInfo) -> None:
    content = zipped([(zipfile.ZipInfo("a/good.wav"), b"x"), (entry, b"../../evil")])
    message = refusal(tmp_path / "out", content)
    assert f"{entry.filename!r} is a link or leads out of the folder" in message
    assert tree(tmp_path) == {"out/a.zip"}


def tar_entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "entry",
    [
        tar_entry("../evil.ogg"),
        tar_entry("a/../../evil.ogg"),
        tar_entry("/tmp/evil.ogg"),
        tar_entry("a/soft", tarfile.SYMTYPE, "../../evil"),
        tar_entry("a/hard", tarfile.LNKTYPE, "../../evil"),
        tar_entry("a/device", tarfile.CHRTYPE),
        tar_entry("a/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: info.name,
)
def test_no_entry_of_a_tar_file_is_a_link_or_leads_out(
    tmp_path: Path, entry: tarfile.TarInfo
) -> None:
    content = tarred([(tarfile.TarInfo("a/good.ogg"), b"x"), (entry, b"evil")])
    message = refusal(tmp_path / "out", content, TAR)
    assert f"{entry.name!r} is a link or leads out of the folder" in message
    assert tree(tmp_path) == {"out/a-v1.0.0.tgz"}


# Interruptions and full disks


def test_a_killed_extraction_leaves_no_folder(tmp_path: Path) -> None:
    content = zipped({"a/cel/a.wav": b"x"})
    (tmp_path / A.name).write_bytes(content)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from irmas_dist.corpus import archives, unpack\n"
        "unpack._put = lambda *_: os._exit(9)\n"
        "archive = archives.Archive('a.zip', '', 'training', 1)\n"
        "unpack.extract_archives([archive], Path(sys.argv[1]), False)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == 9
    assert not (tmp_path / "a").exists()
    assert not is_extracted(A, tmp_path)
    assert extract(tmp_path, content) == 1
    assert tree(tmp_path) == {"a/cel/a.wav", "a/.download.json"}


def test_space_is_checked_before_extraction(small_disk: Path) -> None:
    content = zipped({"a/silence.wav": bytes(3_000_000)}, zipfile.ZIP_DEFLATED)
    assert "3.0 MB are needed to extract" in refusal(small_disk, content)
    assert tree(small_disk) == {"a.zip"}
    grow(small_disk)
    assert extract(small_disk, content) == 1


def test_a_disk_that_fills_up_during_extraction_leaves_no_folder(small_disk: Path) -> None:
    # More files than the file system has blocks for, though not more bytes.
    files = {f"a/{number}.wav": b"x" for number in range(400)}
    content = zipped(files, zipfile.ZIP_DEFLATED)
    assert "No space left on device" in refusal(small_disk, content)
    assert tree(small_disk) == {"a.zip"}
    grow(small_disk)
    assert extract(small_disk, content) == 400

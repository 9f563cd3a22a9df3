"""The commands download and index: options, and what they print."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.cli import main
from irmas_dist.corpus.manifest import read_manifest
from tests.corpus.trees import excerpt, wav


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main.run([str(argument) for argument in arguments]) == 0
    return capfd.readouterr().out


def test_index_prints_counts_problems_and_conflicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "tree"
    for number in range(7):
        wav(root / "gac" / f"[gac][pop_roc]000{number}__1.wav", number)
        wav(root / "gel" / f"[gel][pop_roc]100{number}__1.wav", number)
    (root / "gel" / "empty.wav").write_bytes(b"")
    soundfile.write(root / "gel" / "[gel][pop_roc]2000__1.wav", np.zeros(2_000), 44_100)
    excerpt(root / "song-1.wav", "gel\nvoi\n", 6)
    out = run(capfd, "index", "tree")
    assert "unusable, 1: empty file" in out
    assert "unusable: gel/empty: empty file" in out
    assert "\ngel/[gel][pop_roc]2000__1: silent: no sample reaches -72 dBFS\n" in out
    first = "gac/[gac][pop_roc]0000__1 (gac); gel/[gel][pop_roc]1000__1 (gel)"
    assert f"same audio, different labels: {first}\n" in out
    assert "same audio, different labels: … and 2 more; see the manifest's column 'md5'" in out
    assert "in several parts: recording 0006" in out
    summary = "16 clips, 0.00 hours, groups: 8 of training and 1 of testing; 1 unusable, 7 with"
    assert summary in out

    out = run(capfd, "index", "tree", "--set", "corpus.conflicts=drop")
    assert "unusable, 15: conflicting labels" in out
    rows = {row["clip_id"]: row for row in read_manifest("manifest.parquet").to_pylist()}
    assert rows["gac/[gac][pop_roc]0000__1"]["problem"] == (
        "conflicting labels: the same audio as gel/[gel][pop_roc]1000__1, which is gel"
    )
    del rows["gel/[gel][pop_roc]2000__1"]
    assert all(row["problem"] for row in rows.values())


def test_the_data_set_to_download_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("irmas_dist.corpus.download.BACKOFF_S", 0.0)
    monkeypatch.setenv("IRMAS_LOG_DIR", str(tmp_path / "logs"))
    command = ["download", str(tmp_path / "out"), "--dataset", "openmic"]
    assert main.run([*command, "--base-url", "http://127.0.0.1:9"]) == 1
    error = capfd.readouterr().err
    assert "http://127.0.0.1:9/openmic-2018-v1.0.0.tgz: Connection refused" in error
    assert main.run([*command, "--part", "testing"]) == 2
    assert "the archive of OpenMIC-2018 has both parts" in capfd.readouterr().err


def test_index_shows_in_how_many_clips_an_instrument_is_known_unless_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        wav(tmp_path / f"{number}.wav", number)
    options = ["--set", "corpus.instruments={kick: kick, snare: snare}", "--table", "clips.csv"]
    Path("clips.csv").write_text("path,kick,snare\n0.wav,1,?\n1.wav,1,0\n2.wav,0,1\n")
    out = run(capfd, "index", *options)
    assert "2 of 3" in out
    assert "1 of 2" in out
    assert "clips: of those in which the instrument is known" in out
    Path("clips.csv").write_text("path,kick,snare\n0.wav,1,0\n1.wav,1,0\n2.wav,0,1\n")
    out = run(capfd, "index", *options)
    assert "known" not in out
    assert " of 3" not in out


def test_index_does_not_write_over_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wav(tmp_path / "a.wav", 0)
    table = tmp_path / "clips.csv"
    table.write_text("path,gac,note\na.wav,1,mine\n")
    (tmp_path / "link.csv").symlink_to(table)
    before = table.read_bytes()
    for arguments, status, message in [
        (("--out", "clips.csv"), 1, "clips.csv is named for something else, too"),
        (("--out", "link.csv"), 1, "link.csv is named for something else, too"),
        (("--out", "a.wav"), 1, "a.wav has the name of an audio file: write to another file"),
        (("--vocabulary-from-table", "v", "--out", "./v"), 1, "v is named for something else, too"),
        (("--column", "path=a", "--column", "path=b"), 2, "--column path: is given twice"),
        (("--out", "new.csv"), 2, "a manifest is Parquet; name it new.parquet"),
    ]:
        assert main.run(["index", "--table", "clips.csv", *arguments]) == status
        assert message in capfd.readouterr().err
    assert main.run(["index", "--table", "clips.csv", "--part", "testing"]) == 2
    assert "--part is of a TREE" in " ".join(capfd.readouterr().err.split())
    assert table.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "clips.csv", "link.csv"}

"""``irmas extract``: what it refuses before Ray starts, previews, and what it shows."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.cli.features import show_extraction
from irmas_dist.features.extract import ExtractSummary
from tests.cli.conftest import Ended

pytestmark = pytest.mark.usefixtures("no_ray")
PNG = b"\x89PNG\r\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "required, unless --preview draws a single file"),
        ("manifest.parquet", "required, unless --preview draws a single file"),
        ("manifest.parquet out --max-rejects 2", "Invalid value for '--max-rejects'"),
        ("manifest.parquet out --max-rejects -0.1", "Invalid value for '--max-rejects'"),
    ],
)
def test_wrong_usage(irmas: Callable[..., Ended], arguments: str, told: str) -> None:
    ended = irmas("extract", *arguments.split())
    assert told in ended.refusal(2)


def test_a_dry_run_reads_no_manifest_and_writes_no_features(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = irmas("extract", "missing", "out", "--dry-run", "--json", "--set", "features.bands=64")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["recipe"]["features"]["bands"] == 64
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_preview_is_a_picture_named_after_its_file(
    irmas: Callable[..., Ended], tmp_path: Path
) -> None:
    (tmp_path / "music").mkdir()
    soundfile.write(tmp_path / "music" / "a.b.wav", np.zeros(8_000), 8_000)
    ended = irmas("extract", "--preview", "music/a.b.wav")
    assert (ended.code, ended.out) == (0, "a.b.png\n"), ended.err
    assert ended.err == "music/a.b.wav: silent: no sample reaches -72 dBFS\n"
    assert (tmp_path / "a.b.png").read_bytes().startswith(PNG)
    ended = irmas("extract", "--preview", "music/a.b.wav", "--preview-out", "other.png", "--json")
    assert json.loads(ended.out) == {"path": "other.png"}
    assert (tmp_path / "other.png").read_bytes().startswith(PNG)


def test_a_file_without_audio_has_no_preview(irmas: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("words")
    ended = irmas("extract", "--preview", "a.wav")
    assert (ended.code, ended.out) == (1, "")
    assert "a.wav: cannot be decoded: Format not recognised" in ended.err
    assert not (tmp_path / "a.png").exists()


NOTHING_NEW = ExtractSummary(
    path="out",
    clips=1_200,
    computed=0,
    rewritten=0,
    hours=0.0,
    bytes=0,
    rejects={},
    notes={},
    seconds=2.0,
)


def shown(summary: ExtractSummary, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show_extraction(summary, json_output=False)
    return capsys.readouterr().out.splitlines()


def test_where_nothing_was_computed_only_the_clips_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert shown(NOTHING_NEW, capsys) == ["1,200 clips, 2.0 s: out"]


def test_what_was_rejected_rewritten_and_computed_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    rejects = {f"reason [{number}]": 1_000 for number in range(6)}
    notes = dict.fromkeys("abcdefg", "silent") | {"[h]": "its channels cancel"}
    summary = replace(
        NOTHING_NEW,
        notes=notes,
        computed=900,
        rewritten=3,
        hours=1.5,
        bytes=2_500_000,
        rejects=rejects,
    )
    assert shown(summary, capsys) == [
        *(f"rejected, 1,000: reason [{number}]" for number in range(5)),
        "6,000 rejected: out/rejects.parquet",
        *(f"{clip}: silent" for clip in "abcde"),
        "… and 2 more: silent",
        "[h]: its channels cancel",
        "3 shards updated to the manifest",
        "900 clips computed, 1.50 hours of audio at 2,700 times real time, 2.5 MB written",
        "1,200 clips, 2.0 s: out",
    ]


def test_a_program_is_told_how_fast_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    show_extraction(replace(NOTHING_NEW, hours=1.5), json_output=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["realtime_factor"], found["clips"], found["rejects"]) == (2_700, 1_200, {})

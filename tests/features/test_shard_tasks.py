"""The tasks of an extraction have every clip once, and report what they cannot use."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from irmas_dist import storage
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import WHOLE, Span, open_audio
from irmas_dist.corpus.facts import read_spans
from irmas_dist.corpus.manifest import SCHEMA
from irmas_dist.features import shard_tasks, store
from irmas_dist.features.diff import AUDIO, FILE
from irmas_dist.features.logmel import LogMel, log_mel
from irmas_dist.features.shard_tasks import ShardComputer, compute_shard, split_into_tasks
from irmas_dist.instruments import IRMAS


def row(clip_id: str, **other: Any) -> dict[str, Any]:
    values = {
        "path": "a.wav",
        "part": "training",
        "instruments": ["pia"],
        "unknown": [],
        "group": "g",
    }
    return {"clip_id": clip_id, "md5": "0", "duration_s": 3.0, **values, **other}


def test_blocks_have_every_pending_clip_once_and_only_their_own_buffers() -> None:
    rows = [row(f"{number}") for number in range(2_000)]
    # Pending rows have been filtered and are in several chunks.
    manifest = pa.concat_tables(
        pa.Table.from_pylist(rows[low : low + 500], SCHEMA) for low in range(0, 2_000, 500)
    )
    blocks = split_into_tasks(manifest, shard_seconds=60.0, cores=1)
    assert [block.num_rows for block in blocks] == [20] * 100
    assert pa.concat_tables(blocks).equals(manifest)
    # A slice would be sent with the buffers of the whole table.
    assert all(block.get_total_buffer_size() < manifest.nbytes / 50 for block in blocks)


def test_a_file_longer_than_a_shard_ends_its_block() -> None:
    rows = [row("1"), row("2", duration_s=100.0), row("3")]
    manifest = pa.Table.from_pylist(rows, SCHEMA)
    blocks = split_into_tasks(manifest, shard_seconds=10.0, cores=1)
    assert [block.column("clip_id").to_pylist() for block in blocks] == [["1", "2"], ["3"]]


@pytest.fixture
def block(tmp_path: Path) -> pa.Table:
    """One good file and one that is not audio."""
    soundfile.write(tmp_path / "good.wav", np.ones(22_050) / 2, 22_050)
    (tmp_path / "bad.wav").write_text("not audio")
    rows = [row(name, path=str(tmp_path / f"{name}.wav")) for name in ("good", "bad")]
    return pa.Table.from_pylist(rows, SCHEMA)


def test_a_bad_file_is_a_reject_and_the_others_are_written(tmp_path: Path, block: pa.Table) -> None:
    out = str(tmp_path / "store")
    [result] = compute_shard(block, out, LogMelSettings(), IRMAS).to_pylist()
    assert (result["clips"], result["seconds"], result["failure"]) == (1, 3.0, None)
    [reject] = result["rejects"]
    assert (reject["clip_id"], reject["md5"], reject["found_in"]) == ("bad", "0", AUDIO)
    assert reject["problem"].startswith("cannot be decoded")
    [shard] = store.read_shards(out, store.shard_names(out))
    assert shard.clips.column("clip_id").to_pylist() == ["good"]
    assert shard.fingerprint == store.settings_fingerprint(LogMelSettings(), IRMAS)
    assert result["bytes"] == (tmp_path / "store" / shard.name).stat().st_size


def test_a_file_of_another_size_than_was_indexed_is_a_reject(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(22_050) / 2, 22_050)
    size, out = (tmp_path / "a.wav").stat().st_size, str(tmp_path / "store")
    rows = [row(name, path=str(tmp_path / "a.wav"), bytes=size + more) for name, more in
            (("same", 0), ("changed", 2))]  # fmt: skip
    block = pa.Table.from_pylist(rows, SCHEMA)
    [result] = compute_shard(block, out, LogMelSettings(), IRMAS).to_pylist()
    assert result["clips"] == 1
    [reject] = result["rejects"]
    assert (reject["clip_id"], reject["found_in"]) == ("changed", FILE)
    assert reject["problem"] == "has changed since it was indexed: index again"


def block_of(path: Path, spans: list[Span]) -> pa.Table:
    """Return rows of clips of one file, named by their numbers."""
    rows = [
        row(f"{number}", path=str(path), start_s=start, end_s=end)
        for number, (start, end) in enumerate(spans)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


SPANS: list[Span] = [(4.0, 6.0), (0.0, None), (1.0, 2.5), (20.0, 21.0), (1.5, 3.0), (6.0, None)]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_spans_of_a_file_are_computed_from_one_copy_as_each_alone(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copies = tmp_path / f"a.{suffix}", list[str]()
    noise = np.random.default_rng(0).standard_normal((8 * 22_050, 2)) / 8
    soundfile.write(path, noise, 22_050)
    whole_file = shard_tasks.local_file

    def counted(location: str) -> AbstractContextManager[str]:
        copies.append(location)
        return whole_file(location)

    monkeypatch.setattr(shard_tasks, "local_file", counted)
    block = block_of(path, SPANS)
    [result] = compute_shard(block, str(tmp_path / "store"), LogMelSettings(), IRMAS).to_pylist()
    assert copies == [str(path)]
    [reject] = result["rejects"]
    assert (reject["clip_id"], reject["found_in"]) == ("3", AUDIO)
    assert "the file ends after" in reject["problem"]
    [shard] = (tmp_path / "store").glob("part-*")
    table = storage.read_table(shard, ["clip_id", "logmel"])
    stored = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert list(stored) == ["0", "1", "2", "4", "5"]
    for clip_id, bytes_ in stored.items():
        with open_audio(path, SPANS[int(clip_id)]) as file:
            assert bytes_ == log_mel(file, LogMelSettings()).tobytes()


def test_a_span_that_cannot_be_decoded_costs_the_others_of_its_file_nothing(
    tmp_path: Path,
) -> None:
    path, rate = tmp_path / "a.flac", 22_050
    noise = np.random.default_rng(0).integers(-4_000, 4_000, (10 * rate, 1), np.int16)
    soundfile.write(path, noise, rate)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    spans: list[Span] = [(0.0, 1.0), (4.0, 6.0), (4.5, 5.5), (7.0, 8.0)]
    block = block_of(path, spans)
    [result] = compute_shard(block, str(tmp_path / "store"), LogMelSettings(), IRMAS).to_pylist()
    assert [reject["clip_id"] for reject in result["rejects"]] == ["1", "2"]
    assert all("lost sync" in reject["problem"] for reject in result["rejects"])
    [shard] = (tmp_path / "store").glob("part-*")
    found = dict(zip(*storage.read_table(shard, ["clip_id", "logmel"]).to_pydict().values(),
                     strict=True))  # fmt: skip
    for number in (0, 3):
        start, end = (round(second * rate) for second in spans[number])
        expected = log_mel(noise[start:end], LogMelSettings(), rate)
        assert found[f"{number}"] == expected.tobytes()


def test_a_file_that_goes_away_between_its_spans_is_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.ones(6 * 8_000) / 2, 8_000)

    def log_mel_and_delete(*arguments: Any, **named: Any) -> LogMel:
        mel = log_mel(*arguments, **named)
        path.unlink()
        return mel

    monkeypatch.setattr(shard_tasks, "log_mel", log_mel_and_delete)
    block = block_of(path, [(0.0, 2.0), (1.0, 3.0), (1.5, 3.5)])
    [result] = compute_shard(block, str(tmp_path / "store"), LogMelSettings(), IRMAS).to_pylist()
    assert [(one["clip_id"], one["found_in"], one["problem"]) for one in result["rejects"]] == [
        ("1", FILE, "no such file"),
        ("2", FILE, "no such file"),
    ]


def later(path: Path) -> None:
    """Set the time of a file's last change to a second later."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


@pytest.mark.parametrize("span", [WHOLE, (0.25, 0.75)])
def test_a_file_of_the_same_size_that_was_changed_is_a_reject(tmp_path: Path, span: Span) -> None:
    path, out = tmp_path / "a.wav", str(tmp_path / "store")
    soundfile.write(path, np.ones(22_050) / 2, 22_050)
    [facts] = read_spans(path, [span])
    indexed = row("a", path=str(path), start_s=span[0], end_s=span[1]) | asdict(facts)
    block = pa.Table.from_pylist([indexed], SCHEMA)

    def rejects() -> list[str]:
        [result] = compute_shard(block, out, LogMelSettings(), IRMAS).to_pylist()
        return [reject["problem"] for reject in result["rejects"]]

    assert not rejects()
    later(path)  # A copy, or touched: the same audio.
    assert not rejects()
    soundfile.write(path, np.ones(22_050) / 4, 22_050)
    later(path)
    assert rejects() == ["has changed since it was indexed: index again"]


def test_a_shard_that_cannot_be_written_is_a_failure_not_an_exception(
    tmp_path: Path, block: pa.Table
) -> None:
    (tmp_path / "store").write_text("a file, not a directory")
    compute = ShardComputer(
        out=str(tmp_path / "store"), settings=LogMelSettings(), vocabulary=IRMAS
    )
    [result] = compute(block).to_pylist()
    assert "\n" not in result["failure"]
    assert str(tmp_path / "store") in result["failure"]


def test_a_worker_imports_neither_torch_nor_librosa() -> None:
    program = "import irmas_dist.features.shard_tasks, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    modules = done.stdout.split()
    assert "irmas_dist.features.logmel" in modules
    assert not {"torch", "librosa", "numba", "ray"} & set(modules)

"""What wandb writes of a run is read, cut and written again."""

import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking.run_file import (
    BLOCK,
    COPY_SUFFIX,
    HEADER,
    RunFile,
    mark_sent,
    read_records,
    run_files,
    unsent_files,
    write_records,
)
from irmas_dist.tracking.start import start_run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs, with a configuration of more than a block."""
    directory = tmp_path_factory.mktemp("runs")
    tracking = TrackingSettings(mode="offline", directory=str(directory))
    config = {"a": {"b": 1}, "long": "x" * 3 * BLOCK}
    run = start_run(tracking, name="n", job_type="train", group="g", config=config, run_id="r1")
    for epoch in (1.0, 2.0, 3.0):
        run.log({"epoch": epoch, "val_loss": 1 / epoch})
    run.configure({"a": {"b": 2}})
    run.summarise({"nested": {"x": 1}})
    run.close()
    (file,) = run_files(directory)
    return file


def test_a_file_describes_its_run(written: Path) -> None:
    found = RunFile(written)
    described = (found.run.run_id, found.run.display_name, found.run.run_group)
    assert described == ("r1", "n", "g")
    assert found.last_step == 3
    assert found.whole
    assert found.config["a"] == {"b": 2}
    assert found.summary["nested"] == {"x": 1}
    assert found.summary["val_loss"] == pytest.approx(1 / 3)
    assert not [name for name in (*found.config, *found.summary) if name.startswith("_")]


@settings(max_examples=40)
@given(share=st.floats(0, 1))
def test_a_file_that_a_kill_has_cut_is_read_up_to_its_last_record(
    share: float, written: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = written.read_bytes()
    cut = tmp_path_factory.mktemp("cut") / "run-r1.wandb"
    cut.write_bytes(content[: int(share * len(content))])
    whole, read = list(read_records(written)), list(read_records(cut))
    assert read == whole[: len(read)]
    write_records(cut, read)
    assert list(read_records(cut)) == read


@settings(max_examples=40)
@given(share=st.floats(0, 1))
def test_a_file_that_a_kill_has_cut_is_not_damaged_and_one_that_goes_on_is(
    share: float, written: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = written.read_bytes()
    file = tmp_path_factory.mktemp("damaged") / "run-r1.wandb"
    cut = content[: int(share * len(content))]
    for end in (b"", bytes(100)):  # Some file systems leave zeros.
        file.write_bytes(cut + end)
        assert not RunFile(file).damaged
    at = len(HEADER) + int(share * (len(content) - len(HEADER) - 1_000))
    file.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    found = RunFile(file)
    assert (found.damaged, found.whole) == (True, False)


@pytest.mark.parametrize("content", [b"", HEADER[:5], HEADER, b"something else that is no run"])
def test_a_file_without_a_run_is_recognised(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "run-x.wandb"
    file.write_bytes(content)
    found = RunFile(file)
    assert (found.run, found.last_step, found.whole) == (None, -1, False)


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(0, 2 * BLOCK) | st.integers(BLOCK - 40, BLOCK), max_size=6))
def test_records_of_all_sizes_are_read_as_written(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    records = [Record(uuid="x" * size) for size in sizes]
    file = tmp_path_factory.mktemp("made") / "run.wandb"
    write_records(file, records)
    assert list(read_records(file)) == records


def test_files_are_found_by_run_and_in_the_order_of_their_start(
    written: Path, tmp_path: Path
) -> None:
    names = ("run-20260102_000000-a", "offline-run-20260101_000000-a", "run-20260103_000000-b")
    for name in names:
        file = tmp_path / "wandb" / name / f"run-{name[-1]}.wandb"
        file.parent.mkdir(parents=True)
        shutil.copy(written, file)
        file.with_name(file.stem + COPY_SUFFIX).touch()
    found = run_files(tmp_path, "a")
    assert [file.parent.name for file in found] == [names[1], names[0]]
    assert len(run_files(tmp_path)) == 3
    found[1].with_suffix(".wandb.synced").touch()  # by wandb's service, whatever the server has
    assert unsent_files(found) == found
    mark_sent(found[1], found[1].stat().st_size)
    assert unsent_files(found) == [found[0]]
    with found[1].open("ab") as file:
        file.write(b"more")
    assert unsent_files(found) == found


def test_parts_of_a_run_that_were_begun_in_other_time_zones_are_in_the_order_of_their_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory is named by the local time; its process may be on another machine."""
    tracking = TrackingSettings(mode="offline", directory=str(tmp_path))
    zones = ("Asia/Tokyo", "UTC", "America/New_York")
    for zone in zones:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        start_run(tracking, name=zone, job_type="train", config={}, run_id="r1").close()
    monkeypatch.undo()
    time.tzset()
    assert [RunFile(file).run.display_name for file in run_files(tmp_path)] == [*zones]


@pytest.mark.parametrize("content", [b"", HEADER[:5], HEADER, HEADER + b"\0\1"])
def test_a_file_that_ends_before_its_run_has_nothing_to_upload(
    content: bytes, written: Path, tmp_path: Path
) -> None:
    empty, whole = (tmp_path / "wandb" / f"offline-run-{n}-r1" / "run-r1.wandb" for n in (1, 2))
    for file in (empty, whole):
        file.parent.mkdir(parents=True)
    empty.write_bytes(content)
    shutil.copy(written, whole)
    assert not unsent_files([empty])
    assert unsent_files([whole, empty]) == [whole]


@pytest.mark.parametrize("content", [b"something else that is no run", HEADER + bytes(40) + b"x"])
def test_a_file_whose_beginning_is_damaged_counts_as_not_uploaded(
    content: bytes, tmp_path: Path
) -> None:
    """Somebody must learn that its run is lost."""
    file = tmp_path / "run-r1.wandb"
    file.write_bytes(content)
    assert unsent_files([file]) == [file]

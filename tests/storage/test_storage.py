"""Files by path or URL: writing is atomic, and errors name the location in one line."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.storage.locks import lock_directory, lock_file
from tests.ray_cluster import free_port


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "new" / "a.json", {"é": [1, None]})
    assert storage.read_json(tmp_path / "new" / "a.json") == {"é": [1, None]}
    table = pa.table({"clip_id": ["a", "b"], "frames": [1, 2]})
    storage.write_table(tmp_path / "new" / "b.parquet", table)
    assert storage.read_table(tmp_path / "new" / "b.parquet", ["frames"]) == table.select(
        ["frames"]
    )
    assert storage.list_files(tmp_path) == []
    assert storage.list_files(tmp_path, recursive=True) == ["new/a.json", "new/b.parquet"]


def test_an_interrupted_write_leaves_the_existing_file_and_no_other(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "a.json", 1)
    with pytest.raises(KeyboardInterrupt):
        write_half(str(tmp_path / "a.json"))
    assert storage.read_json(tmp_path / "a.json") == 1
    assert storage.list_files(tmp_path) == ["a.json"]


def test_an_interrupted_write_leaves_no_object(bucket: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_half(f"{bucket}/half")
    assert not storage.exists(f"{bucket}/half")
    filesystem, path = storage.resolve(bucket)
    assert filesystem.get_file_info(pafs.FileSelector(path)) == []


def test_an_interruption_while_an_object_is_sent_leaves_it_whole(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is closed early completes an object that is empty."""
    storage.write_json(f"{bucket}/a.json", "old")

    def slowly(filesystem: pafs.FileSystem, path: str, content: memoryview) -> None:
        with filesystem.open_output_stream(path) as stream:
            time.sleep(0.5)
            stream.write(content)

    monkeypatch.setattr(storage, "_put", slowly)
    Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        storage.write_json(f"{bucket}/a.json", "new")
    assert storage.read_json(f"{bucket}/a.json") == "new"


def test_two_slashes_of_a_url_are_refused_in_one_line(bucket: str) -> None:
    for url in (f"{bucket}//a.json", f"{bucket}/a//b.json"):
        for use in (storage.read_bytes, storage.exists, storage.size, storage.remove):
            with pytest.raises(IrmasError, match=r"//"):
                use(url)
        with pytest.raises(IrmasError, match=r"//"):
            storage.write_json(url, 1)
        with pytest.raises(OSError, match=r"[Ee]mpty"):
            storage.open_file(url)


def test_a_bucket_that_does_not_exist_is_refused_before_there_is_something_to_write(
    bucket: str, tmp_path: Path
) -> None:
    for place in (f"{bucket}/any/thing", (tmp_path / "new" / "a").as_uri()):
        storage.require_bucket(place)
    missing = "s3://no-such-bucket-at-all"
    with pytest.raises(IrmasError, match="there is no bucket no-such-bucket-at-all"):
        storage.require_bucket(f"{missing}/a")
    for lock in (lock_file, lock_directory):
        with pytest.raises(IrmasError, match="there is no bucket"), lock(f"{missing}/a"):
            pass


def write_half(location: str) -> None:
    with storage.write_atomically(location) as stream:
        stream.write(b"half of it")
        raise KeyboardInterrupt


def test_what_killed_writers_leave_can_be_removed_and_nothing_else(tmp_path: Path) -> None:
    others = ["IRMAS-TrainingData.zip.partial", "part-0.parquet", "predictions.csv.partial"]
    for name in others:
        (tmp_path / name).touch()
    with storage.write_atomically(tmp_path / "a"):
        [left] = {path.name for path in tmp_path.iterdir()} - set(others)
    (tmp_path / "a").rename(tmp_path / left)
    storage.remove_partial(tmp_path)
    assert storage.list_files(tmp_path) == others


def test_names_with_brackets_and_hashes_are_not_parsed_as_urls(bucket: str) -> None:
    for name in ("[pia][cla]0001__1.wav", "a #1 100%.wav"):
        with storage.write_atomically(f"{bucket}/folder/{name}") as stream:
            stream.write(b"content")
        assert storage.read_bytes(f"{bucket}/folder/{name}") == b"content"
        assert name in storage.list_files(f"{bucket}/folder")


def test_a_parquet_file_with_a_column_twice_is_refused_in_these_words(tmp_path: Path) -> None:
    columns = pa.table([pa.array([1]), pa.array([2])], names=["kick", "kick"])
    pq.write_table(columns, tmp_path / "t.parquet")
    with pytest.raises(IrmasError, match=r"t\.parquet has several columns 'kick'$"):
        storage.read_table(tmp_path / "t.parquet")


def test_errors_are_one_line_with_the_location(tmp_path: Path) -> None:
    missing, text = tmp_path / "missing", tmp_path / "text"
    text.write_text("neither JSON nor Parquet")
    for read, location, reason in (
        (storage.read_bytes, missing, "missing: no such file or directory"),
        (storage.read_json, text, "text is not JSON: "),
        (storage.read_table, text, "text is not a Parquet file: "),
        (storage.exists, "nonsense://bucket/key", "cannot use nonsense://bucket/key for storage: "),
    ):
        with pytest.raises(IrmasError, match=reason) as refused:
            read(location)
        assert "\n" not in str(refused.value)


def test_google_storage_that_does_not_answer_is_one_line_and_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(storage, "RETRY_S", 1)
    began = time.monotonic()
    with pytest.raises(IrmasError, match=r"^gs://anonymous@silent/key: .*not connect") as refused:
        storage.exists("gs://anonymous@silent/key")
    assert "\n" not in str(refused.value)
    assert "gcloud-cpp" not in str(refused.value)
    assert time.monotonic() - began < 60


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    storage.write_json(link, 1)
    assert link.is_symlink()
    assert target.read_text() == "1\n"


def test_a_link_to_nothing_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "target")
    storage.write_json(tmp_path / "link", 1)
    assert (tmp_path / "folder" / "target").read_text() == "1\n"


def test_a_fifo_is_written_into(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(fifo.read_text)
        storage.write_json(fifo, {"a": 1})
        assert read.result(timeout=10) == '{\n  "a": 1\n}\n'
    assert fifo.is_fifo()


def test_a_device_stays_a_device() -> None:
    storage.write_json("/dev/null", 1)
    assert Path("/dev/null").is_char_device()


def test_a_directory_is_refused_and_stays(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match="is a directory: name a file"):
        storage.write_json(tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    storage.write_json(tmp_path / ("a" * 255), 1)
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


@given(st.lists(st.binary(max_size=300).filter(lambda name: not {0, ord("/")} & {*name})))
def test_a_file_may_be_named_after_any_other(names: list[bytes]) -> None:
    given = {os.fsdecode(name) for name in names} | {"x" * 251 + ".wav", "x" * 252 + ".wav"}
    made = {storage.name_after(name, ".csv") for name in given}
    assert len(made) == len(given)
    for name in made:
        assert name.endswith(".csv")
        assert len(name.encode()) <= 255
    assert storage.name_after("é.wav", ".csv") == "é.wav.csv"
    assert storage.name_after("a\udcff/b.wav", ".csv").startswith("a?/b.wav-")


def test_a_name_that_is_not_utf_8_is_one_line(tmp_path: Path) -> None:
    location = tmp_path / os.fsdecode(b"\xff.json")
    calls = (storage.read_json, storage.exists, storage.list_files, storage.make_directory)
    for call in (*calls, lambda path: storage.write_json(path, 1)):
        with pytest.raises(IrmasError, match=r"\?\.json: its name is not UTF-8; rename it$"):
            call(location)
    assert not list(tmp_path.iterdir())


def test_files_whose_names_are_not_utf_8_are_not_listed(tmp_path: Path) -> None:
    for name in (b"\xff.wav", b"a.wav"):
        (tmp_path / os.fsdecode(name)).touch()
    assert storage.list_files(tmp_path) == ["a.wav"]
    assert storage.list_files(tmp_path, recursive=True) == ["a.wav"]


def test_a_file_where_a_directory_is_to_be_listed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IrmasError, match="file: Not a directory"):
        storage.list_files(tmp_path / "file")

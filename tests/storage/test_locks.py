"""Only one process at a time writes to a place, and none that has died keeps others from it."""

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.storage.locks import is_locked, lock_directory, lock_file

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

HOLD = """
import sys, time
from irmas_dist.storage import locks

with getattr(locks, sys.argv[1])(sys.argv[2]):
    print("locked", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(lock: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock; on leaving it is killed."""
    command = [sys.executable, "-c", HOLD, lock, str(path)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["out", "new/out"])
def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path, name: str) -> None:
    for lock, path in ((lock_directory, tmp_path / name), (lock_file, tmp_path / f"{name}.csv")):
        with holder(lock.__name__, path) as first:
            with pytest.raises(IrmasError) as refused, lock(path):
                pass
            who = rf"process {first.pid} on {re.escape(socket.gethostname())} since 20\d\d-\S+ \S+"
            assert re.fullmatch(
                rf"{path} is in use by {who}: wait until that has ended, or name another place",
                str(refused.value),
            )


@pytest.mark.parametrize("lock", [lock_directory, lock_file])
def test_a_killed_process_keeps_no_lock(tmp_path: Path, lock: object) -> None:
    with holder(lock.__name__, tmp_path / "out" / "a"):
        pass
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(left) == 1
    with lock(tmp_path / "out" / "a"):
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == left
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_lock_file_that_its_holder_deletes_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, path = fcntl.flock, tmp_path / ".lock"

    def flock_after_its_holder(lock: TextIO, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", flock_after_its_holder)
    with lock_directory(tmp_path):
        assert is_locked(tmp_path)


def test_a_lock_that_cannot_be_deleted_does_not_hide_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(IrmasError, match="the disk"), lock_directory(tmp_path):
            raise IrmasError("the disk is read-only")
    with lock_directory(tmp_path):
        assert is_locked(tmp_path)


def test_what_was_created_for_a_lock_is_deleted_with_it(tmp_path: Path) -> None:
    with lock_directory(tmp_path / "new" / "out"):
        assert is_locked(tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").mkdir()
    with lock_directory(tmp_path / "old"), lock_file(tmp_path / "folder" / "file"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    with lock_directory(tmp_path / "new" / "out"):
        (tmp_path / "new" / "out" / "kept").touch()
    assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == ["kept"]
    assert not is_locked(tmp_path / "new" / "out")
    assert not is_locked(tmp_path / "missing")


def test_files_of_a_folder_are_locked_each_by_itself(tmp_path: Path) -> None:
    names = ["a" * 255, "b" * 255, os.fsdecode(b"\xff.csv")]
    with lock_directory(tmp_path), lock_file(tmp_path / names[0]), lock_file(tmp_path / names[1]):
        with lock_file(tmp_path / names[2]):
            pass
        with pytest.raises(IrmasError, match="in use"), lock_file(tmp_path / names[0]):
            pass


def test_a_link_is_locked_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "target.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    with (
        lock_file(tmp_path / "target.csv"),
        pytest.raises(IrmasError, match="in use"),
        lock_file(tmp_path / "link.csv"),
    ):
        pass


def test_devices_fifos_and_objects_are_not_locked(tmp_path: Path, bucket: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place in ("/dev/null", tmp_path / "fifo", f"{bucket}/a.csv"):
        with lock_file(place), lock_file(place):
            pass
    with lock_directory(f"{bucket}/model"), lock_directory(f"{bucket}/model"):
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {"fifo", "object-store.log"}


def test_what_cannot_be_written_is_refused_by_its_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for lock, place, why in (
        (lock_directory, tmp_path / "file", "file is a file: name a directory"),
        (lock_directory, tmp_path / "file" / "model", "cannot be written: Not a directory"),
        (lock_file, tmp_path / "file" / "a.csv", "cannot be written: Not a directory"),
        (lock_file, tmp_path, "is a directory: name a file"),
        (lock_directory, "/proc/model", "/proc/model cannot be written: "),
        (lock_file, "/proc/a.csv", "/proc/a.csv cannot be written: "),
        (lock_directory, tmp_path / "loop", "Too many levels of symbolic links"),
        (lock_file, tmp_path / "loop", "Too many levels of symbolic links"),
        (lock_directory, tmp_path / ("a" * 256), "cannot be written: File name too long"),
        (lock_file, tmp_path / ("a" * 256), "cannot be written: File name too long"),
    ):
        with pytest.raises(IrmasError, match=why), lock(place):
            pass
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_where_there_are_no_locks_the_user_must_see_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock_directory(tmp_path):
        assert not is_locked(tmp_path)
    assert "no locks, so that nothing else may write there" in capsys.readouterr().err

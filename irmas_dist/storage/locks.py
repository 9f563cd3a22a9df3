"""Locks, by which only one command at a time writes to a place.

They are the kernel's, or a file server's, which release them when their process or host dies. An
object store has none: there the last of two writers wins, object by object.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from irmas_dist.errors import IrmasError
from irmas_dist.storage import STDOUT, Location, absolute, is_url, name_after, require_bucket
from irmas_dist.terminal import say

SUFFIX = ".lock"
"""Name of the locked file in a directory; it says who writes there."""

ATTEMPTS = 3
"""`is_locked` holds a lock too, for an instant."""

LOCKS_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What file systems without locks answer, such as Lustre when it is mounted without."""


@contextmanager
def lock_directory(location: Location) -> Iterator[None]:
    """Keep other commands, on all hosts, from writing into a directory.

    It is created unless it exists, and deleted again if it is empty at the end.

    Raises:
        IrmasError: Another process has locked it, or it cannot be written.
    """
    if is_url(location):
        require_bucket(location)
        yield
        return
    folder = Path(absolute(location))
    if (mode := _mode(folder, location)) and not stat.S_ISDIR(mode):
        raise IrmasError(f"{location} is a file: name a directory")
    with _locked(folder, SUFFIX, location):
        yield


@contextmanager
def lock_file(location: Location) -> Iterator[None]:
    """Keep other commands, on all hosts, from writing a file. Devices and FIFOs are not locked.

    Raises:
        IrmasError: Another process has locked it, or it cannot be written.
    """
    if is_url(location) or os.fspath(location) == STDOUT:
        require_bucket(location)
        yield
        return
    target = Path(absolute(location))
    mode = _mode(target, location)
    if stat.S_ISDIR(mode):
        raise IrmasError(f"{location} is a directory: name a file")
    if mode and not stat.S_ISREG(mode):
        yield
        return
    target = target.resolve()
    with _locked(target.parent, name_after(f".{target.name}", SUFFIX), location):
        yield


def is_locked(directory: Path) -> bool:
    """Return whether a process has locked a directory."""
    try:
        with (directory / SUFFIX).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    return False


def _mode(path: Path, location: Location) -> int:
    """Return the mode of what is at a path, by which its type is known; 0 if nothing is."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise IrmasError(f"{location} cannot be written: {error.strerror}") from error


@contextmanager
def _locked(folder: Path, name: str, location: Location) -> Iterator[None]:
    """Hold a lock in a folder, which is created for it."""
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _acquire(folder / name, location)
        except OSError as error:
            raise IrmasError(f"{location} cannot be written: {error.strerror}") from error
        try:
            yield
        finally:
            with lock, suppress(OSError):  # What the block raises matters more.
                (folder / name).unlink()
    finally:
        with suppress(OSError):
            for parent in created:
                parent.rmdir()


def _acquire(path: Path, location: Location) -> TextIO:
    """Lock a file, which may be left from a killed process, and note this process in it."""
    holder = ""
    for attempt in range(ATTEMPTS):
        time.sleep(0.1 * attempt)
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in LOCKS_UNSUPPORTED:
                say(f"{location}: its file system has no locks, so that nothing else "
                    "may write there now")  # fmt: skip
            elif error.errno in (errno.EAGAIN, errno.EACCES):
                lock.seek(0)
                holder = lock.read().strip()
                lock.close()
                continue
            else:
                raise
        if not os.fstat(lock.fileno()).st_nlink:
            lock.close()  # Its holder has deleted it since it was opened.
            continue
        lock.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        lock.flush()
        os.fsync(lock.fileno())  # for other hosts
        return lock
    raise IrmasError(
        f"{location} is in use by {holder or 'another process'}: wait until that has ended, or "
        "name another place"
    )

"""Extracting archives: checked, atomically, and with a marker that lists the files."""

import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from threading import Event
from typing import TypeVar

from irmas_dist import storage
from irmas_dist.corpus.irmas import Archive
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import progress

MARKER = ".download.json"
"""File in an extracted folder: the md5 of its archive, and its files with their sizes."""

CHUNK_BYTES = 1 << 16
_JUNK = {"__MACOSX", ".DS_Store"}

T = TypeVar("T")
R = TypeVar("R")


def is_extracted(archive: Archive, out: Path) -> bool:
    """Return whether an archive's folder is in ``out`` with all its files."""
    folder = out / archive.stem
    if not (folder / MARKER).exists():
        return False
    marker = storage.read_json(folder / MARKER)
    return marker["md5"] == archive.md5 and all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in marker["files"].items()
    )


def extract_archives(archives: Sequence[Archive], out: Path, keep_archives: bool) -> int:
    """Extract archives that are in ``out``, and return the number of their files."""
    contents = {archive: _members(out / archive.name, archive.stem) for archive in archives}
    size = sum(info.file_size for members in contents.values() for info in members.values())
    check_space(out, size, "to extract")
    with progress("extract", size, "bytes") as advance:

        def extract_one(archive: Archive, stop: Event) -> None:
            _extract(archive, contents[archive], out, advance, stop)
            if not keep_archives:
                (out / archive.name).unlink()

        in_threads(extract_one, archives)
    return sum(len(members) for members in contents.values())


def _members(path: Path, folder: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the files of an archive by their paths below ``folder``, without macOS's junk.

    Raises:
        IrmasError: One of them is a link, or would be written outside of the folder.
    """
    members = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = PurePosixPath(_name(info))
            if name.is_absolute() or ".." in name.parts or stat.S_ISLNK(info.external_attr >> 16):
                raise IrmasError(
                    f"{path}: the entry {_name(info)!r} is a link or leads out of the folder; "
                    "nothing was extracted, delete the archive and fetch it from elsewhere"
                )
            junk = any(part in _JUNK or part.startswith("._") for part in name.parts)
            if not (junk or info.is_dir()):
                members[name] = info
    if all(name.parts[0] == folder for name in members):
        return {name.relative_to(folder): info for name, info in members.items()}
    return members


def _name(info: zipfile.ZipInfo) -> str:
    """Return an entry's name; macOS writes UTF-8 without the flag for it."""
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _extract(
    archive: Archive,
    members: dict[PurePosixPath, zipfile.ZipInfo],
    out: Path,
    advance: Callable[[int], None],
    stop: Event,
) -> None:
    """Extract one archive into a temporary folder, and rename that when it is complete."""
    temporary = out / f".{archive.stem}.partial"
    marker = {
        "archive": archive.name,
        "md5": archive.md5,
        "files": {str(name): info.file_size for name, info in members.items()},
    }
    with disk_errors(temporary), ExitStack() as stack:
        shutil.rmtree(temporary, ignore_errors=True)
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        zipped = stack.enter_context(zipfile.ZipFile(out / archive.name))
        for name, info in members.items():
            if stop.is_set():
                raise CancelledError
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(info) as packed, (temporary / name).open("wb") as file:
                shutil.copyfileobj(packed, file, CHUNK_BYTES)
            advance(info.file_size)
        storage.write_json(temporary / MARKER, marker)
        _put(temporary, out / archive.stem, [*members, PurePosixPath(MARKER)])


def _put(temporary: Path, folder: Path, names: Sequence[PurePosixPath]) -> None:
    """Rename a folder; into an existing one, move its files one by one, the marker last."""
    if not folder.exists():
        temporary.rename(folder)
        return
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).replace(folder / name)


def check_space(out: Path, needed: int, purpose: str) -> None:
    """Refuse when fewer than ``needed`` bytes are free in ``out``."""
    free = shutil.disk_usage(out).free
    if needed > free:
        raise IrmasError(
            f"{out}: {needed / 1e6:,.1f} MB are needed {purpose}, {free / 1e6:,.1f} MB are free; "
            "free some space, or fetch one part at a time with --part"
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line that names the path."""
    try:
        yield
    except OSError as error:
        raise IrmasError(
            f"{path}: {error.strerror or error}; fix it and run the command again to resume"
        ) from error


def in_threads(work: Callable[[T, Event], R], items: Sequence[T]) -> list[R]:
    """Run ``work`` in a thread per item; the first error, or an interrupt, sets the stop event."""
    stop = Event()
    with ThreadPoolExecutor(len(items)) as pool:
        futures = [pool.submit(work, item, stop) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            stop.set()
    return [future.result() for future in futures]

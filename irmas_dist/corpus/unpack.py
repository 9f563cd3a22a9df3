"""Extracting archives: checked, atomically, and with a marker that lists the files."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event
from typing import IO, Literal, TypeVar, cast

from irmas_dist import storage
from irmas_dist.corpus.archives import Archive
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import progress

MARKER = ".download.json"
"""File in an extracted folder: the md5 of its archive, and its files with their sizes."""

CHUNK_BYTES = 1 << 16
_JUNK = {"__MACOSX", ".DS_Store"}

Kind = Literal["file", "folder", "other"]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Member:
    """An entry of an archive: a file, a folder, or something that is not extracted."""

    name: str
    size: int
    kind: Kind
    info: zipfile.ZipInfo | tarfile.TarInfo


def is_extracted(archive: Archive, out: Path) -> bool:
    """Return whether an archive's folder is in ``out`` with all its files."""
    folder = out / archive.folder
    if not (folder / MARKER).exists():
        return False
    marker = storage.read_json(folder / MARKER)
    with storage.damage_reported(folder / MARKER, "delete it"):
        return marker["md5"] == archive.md5 and all(
            (folder / name).is_file() and (folder / name).stat().st_size == size
            for name, size in marker["files"].items()
        )


def extract_archives(archives: Sequence[Archive], out: Path, keep_archives: bool) -> int:
    """Extract archives that are in ``out``, and return the number of their files."""
    contents = {archive: _files(out / archive.name, archive.folder) for archive in archives}
    size = sum(member.size for members in contents.values() for member in members.values())
    check_space(out, size, "to extract", len(archives))
    with progress("extract", size, "bytes") as advance:

        def extract_one(archive: Archive, stop: Event) -> None:
            _extract(archive, contents[archive], out, advance, stop)
            if not keep_archives:
                (out / archive.name).unlink()

        in_threads(extract_one, archives)
    return sum(len(members) for members in contents.values())


def _files(path: Path, folder: str) -> dict[PurePosixPath, Member]:
    """Return the files of an archive by their paths below ``folder``, without macOS's junk.

    Raises:
        IrmasError: One of them is a link or device, or would be written outside of the folder.
    """
    files = {}
    for member in _members(path):
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or member.kind == "other":
            raise IrmasError(
                f"{path}: the entry {member.name!r} is a link or leads out of the folder; "
                "nothing was extracted, delete the archive and fetch it from elsewhere"
            )
        junk = any(part in _JUNK or part.startswith("._") for part in name.parts)
        if not junk and member.kind == "file":
            files[name] = member
    if all(name.parts[0] == folder for name in files):
        return {name.relative_to(folder): member for name, member in files.items()}
    return files


def _members(path: Path) -> Iterator[Member]:
    """Yield the entries of an archive in its order."""
    with _opened(path) as archive:
        if isinstance(archive, tarfile.TarFile):
            for info in archive:
                kind: Kind = "file" if info.isreg() else "folder" if info.isdir() else "other"
                yield Member(info.name, info.size, kind, info)
            return
        for entry in archive.infolist():
            kind = "folder" if entry.is_dir() else "file"
            kind = "other" if stat.S_ISLNK(entry.external_attr >> 16) else kind
            yield Member(_name(entry), entry.file_size, kind, entry)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as zipped:
            yield zipped
    else:
        with tarfile.open(path, "r:gz", encoding="utf-8") as tar:
            yield tar


def _content(archive: zipfile.ZipFile | tarfile.TarFile, member: Member) -> IO[bytes]:
    """Open a file in an archive. In a compressed tar file, going back reads it from its start."""
    if isinstance(archive, tarfile.TarFile):
        content = archive.extractfile(cast("tarfile.TarInfo", member.info))
        assert content is not None  # a file
        return content
    return archive.open(cast("zipfile.ZipInfo", member.info))


def _name(info: zipfile.ZipInfo) -> str:
    """Return an entry's name; macOS writes UTF-8 without the flag for it."""
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _extract(
    archive: Archive,
    members: dict[PurePosixPath, Member],
    out: Path,
    advance: Callable[[int], None],
    stop: Event,
) -> None:
    """Extract one archive into a temporary folder, and rename that when it is complete."""
    temporary = out / f".{archive.folder}.partial"
    marker = {
        "archive": archive.name,
        "md5": archive.md5,
        "files": {str(name): member.size for name, member in members.items()},
    }
    with disk_errors(temporary), ExitStack() as stack:
        shutil.rmtree(temporary, ignore_errors=True)
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        packed = stack.enter_context(_opened(out / archive.name))
        for name, member in members.items():
            if stop.is_set():
                raise CancelledError
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            with _content(packed, member) as content, (temporary / name).open("wb") as file:
                shutil.copyfileobj(content, file, CHUNK_BYTES)
            advance(member.size)
        storage.write_json(temporary / MARKER, marker)
        _put(temporary, out / archive.folder, [*members, PurePosixPath(MARKER)])


def _put(temporary: Path, folder: Path, names: Sequence[PurePosixPath]) -> None:
    """Rename a folder; into an existing one, move its files one by one, the marker last."""
    if not folder.exists():
        temporary.rename(folder)
        return
    folder.mkdir(exist_ok=True)  # refuses a file, by its name
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).replace(folder / name)


def check_space(out: Path, needed: int, purpose: str, archives: int) -> None:
    """Refuse when fewer than ``needed`` bytes, for a number of archives, are free in ``out``."""
    free = shutil.disk_usage(out).free
    if needed > free:
        instead = ", or fetch one part at a time with --part" if archives > 1 else ""
        raise IrmasError(
            f"{out}: {needed / 1e6:,.1f} MB are needed {purpose}, {free / 1e6:,.1f} MB are free; "
            f"free some space{instead}"
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line that names its path, or else this one."""
    try:
        yield
    except OSError as error:
        # Of two paths, the second is where something was to go.
        where = error.filename2 or error.filename or path
        raise IrmasError(
            f"{where}: {error.strerror or error}; fix it and run the command again to resume"
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

"""The file that wandb writes of a run: what is in it, and a copy without what was sent already.

It is a log in LevelDB's format: blocks of 32 KiB with chunks of records, each a protobuf
``Record``. A process that is killed leaves it without its end; what stands before is whole.
"""

import json
import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from irmas_dist import storage

HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
"""The beginning of every file."""

BLOCK = 32_768
CHUNK = struct.Struct("<IHB")
"""Checksum of kind and content, length of the content, and kind."""

COPY_SUFFIX = "-rest.wandb"
"""End of the name of a copy that has only what was not sent yet."""

SENT = ".wandb.synced"
"""Suffix of the file that says that a run's file was uploaded: the number of bytes that it had, to
which its process may add. wandb's own is empty, and written whether or not the server has all."""

BEGUN_ELSEWHERE = ".begun-elsewhere"
"""Suffix of a file that says that another machine may have begun the run."""

FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
"""Kinds of chunks: a whole record, or a part of one."""


class RunFile:
    """A run's file.

    Attributes:
        path: Where it is.
        run: The record that describes the run; None in a file that ends before it.
        last_step: The last step that was logged; -1 without one.
        config: The run's configuration at its end, without what wandb adds.
        summary: The run's summary at its end, without what wandb adds.
        whole: Whether it ends as wandb ends it.
        damaged: Whether something follows that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run: Any = None
        self.last_step = -1
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.whole = False
        self.damaged = False
        try:
            for record in _records(path):
                self._read(record)
        except _DamagedError:
            self.damaged = True

    def _read(self, record: Any) -> None:
        match record.WhichOneof("record_type"):
            case "run":
                self.run = self.run or record.run
                _update(self.config, record.run.config.update)
            case "config":
                _update(self.config, record.config.update)
            case "summary":
                _update(self.summary, record.summary.update)
            case "history":
                self.last_step = max(self.last_step, record.history.step.num)
            case "exit":
                self.whole = True


def _update(values: dict[str, Any], changes: Iterable[Any]) -> None:
    """Change values as a record says, whose names are nested or not."""
    for change in changes:
        *outer, name = change.nested_key or [change.key]
        if (outer or [name])[0].startswith("_"):
            continue
        inner = values
        for key in outer:
            if not isinstance(inner.get(key), dict):
                inner[key] = {}
            inner = inner[key]
        inner[name] = json.loads(change.value_json)


def run_files(directory: str | Path, run_id: str = "*") -> list[Path]:
    """Return the files of runs below a directory's ``wandb``, those begun first first."""
    found = Path(directory).glob(f"wandb/*run-*/run-{run_id}.wandb")
    files = [path.absolute() for path in found if not path.name.endswith(COPY_SUFFIX)]
    return sorted(files, key=lambda file: (started(file), file.parent.name))


def started(file: Path) -> float:
    """Return when a run's file was begun, in seconds since the epoch."""
    for record in read_records(file):
        if record.HasField("run"):
            return float(record.run.start_time.ToMilliseconds() / 1_000)
    # A file that ends before its run has its directory's name, which is the local time.
    named = re.search(r"\d{8}_\d{6}", file.parent.name)
    return time.mktime(time.strptime(named[0], "%Y%m%d_%H%M%S")) if named else 0.0


def unsent_files(files: Sequence[Path]) -> list[Path]:
    """Return the files that have not been uploaded as a whole.

    One that ends before its run, of a process that was killed at once, has nothing to upload.
    """
    return [file for file in files if not is_sent(file) and not _is_empty(RunFile(file))]


def _is_empty(found: RunFile) -> bool:
    return found.run is None and not found.damaged


def is_sent(file: Path) -> bool:
    """Return whether all that a run's file has was uploaded."""
    try:
        size = file.with_suffix(SENT).read_text()
    except FileNotFoundError:
        return False
    return size.isdigit() and file.stat().st_size <= int(size)


def mark_sent(file: Path, size: int) -> None:
    """Note that the first bytes of a run's file were uploaded; its process may write more."""
    with storage.write_atomically(file.with_suffix(SENT)) as stream:
        stream.write(str(size).encode())


def is_begun_elsewhere(file: Path) -> bool:
    """Return whether another machine may have begun the run of a file."""
    return file.with_suffix(BEGUN_ELSEWHERE).exists()


def mark_begun_elsewhere(file: Path) -> None:
    """Note that another machine may have begun the run of a file."""
    file.with_suffix(BEGUN_ELSEWHERE).touch()


class _DamagedError(Exception):
    """A chunk is not as it was written, and others follow: no kill leaves that."""


def read_records(path: Path) -> Iterator[Any]:
    """Yield the records of a file, up to the first one that is not whole."""
    with suppress(_DamagedError):
        yield from _records(path)


def _records(path: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    try:
        content = path.read_bytes()
    except OSError as error:  # The upload says why.
        raise _DamagedError from error
    if HEADER.startswith(content.rstrip(b"\0")):  # Some file systems leave zeros.
        return
    if not content.startswith(HEADER):
        raise _DamagedError
    at, parts = len(HEADER), b""
    while True:
        if BLOCK - at % BLOCK < CHUNK.size:  # Too little for a chunk is filled with zeros.
            at += BLOCK - at % BLOCK
        if at + CHUNK.size > len(content):
            return
        checksum, length, kind = CHUNK.unpack_from(content, at)
        at += CHUNK.size
        fits = length <= BLOCK - at % BLOCK
        part = content[at : at + length]
        at += length
        if not fits or _checksum(kind, part) != checksum:
            if not fits or content[at:].strip(b"\0"):
                raise _DamagedError
            return
        parts = part if kind in (FULL, FIRST) else parts + part
        if kind in (FULL, LAST):
            yield Record.FromString(parts)


def write_records(path: Path, records: Iterable[Any]) -> None:
    """Write a file of records."""
    content = bytearray(HEADER)
    for record in records:
        rest, kind = record.SerializeToString(), FULL
        while True:
            room = BLOCK - len(content) % BLOCK
            if room < CHUNK.size:
                content += bytes(room)
                continue
            part, rest = rest[: room - CHUNK.size], rest[room - CHUNK.size :]
            begins = kind == FULL
            kind = (FIRST if rest else FULL) if begins else (MIDDLE if rest else LAST)
            content += CHUNK.pack(_checksum(kind, part), len(part), kind) + part
            if not rest:
                break
    path.write_bytes(content)


def _checksum(kind: int, part: bytes) -> int:
    return zlib.crc32(part, zlib.crc32(bytes([kind])))

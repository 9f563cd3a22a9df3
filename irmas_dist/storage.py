"""Files by path or URL, local or in an object store, written whole or not at all.

A local file is written beside its target and renamed over it; an object store shows an
object only once it is complete, so there it is put together in memory and sent at once.
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from irmas_dist.errors import IrmasError

PARTIAL = ".partial"
"""Ending of local files that are being written."""


def is_url(location: str | os.PathLike[str]) -> bool:
    """Return whether ``location`` names an object store, such as ``s3://bucket/key``."""
    return "://" in str(location)


def resolve(location: str | os.PathLike[str]) -> tuple[pafs.FileSystem, str]:
    """Return the file system that holds ``location``, and the path to it there.

    Raises:
        IrmasError: The URL's scheme is not one that pyarrow or fsspec knows.
    """
    if not is_url(location):
        return pafs.LocalFileSystem(), str(Path(location).expanduser().absolute())
    scheme, _, rest = str(location).partition("://")
    bucket, _, key = rest.partition("/")
    try:
        filesystem, root = _bucket(f"{scheme}://{bucket or '/'}")
    except (pa.ArrowInvalid, ValueError, OSError) as error:
        raise IrmasError(f"cannot use {location} for storage: {error}") from error
    return filesystem, f"{root.rstrip('/')}/{key}".rstrip("/") or "/"


@lru_cache(maxsize=16)
def _bucket(url: str) -> tuple[pafs.FileSystem, str]:
    """Connect once; keys are appended as they are, for in a URL ``[`` or ``#`` would be wrong."""
    return pafs.FileSystem.from_uri(url)


def absolute(location: str | os.PathLike[str]) -> str:
    """Return ``location`` as it can be given to another process: workers run elsewhere."""
    return str(location) if is_url(location) else str(Path(location).expanduser().absolute())


def join(location: str | os.PathLike[str], *parts: str) -> str:
    """Return ``location`` with ``parts`` appended, for paths and URLs alike."""
    return "/".join([str(location).rstrip("/"), *parts])


def exists(location: str | os.PathLike[str]) -> bool:
    """Return whether there is a file or directory at ``location``.

    Raises:
        IrmasError: It cannot be found out.
    """
    filesystem, path = resolve(location)
    with _told(location):
        return filesystem.get_file_info(path).type != pafs.FileType.NotFound


def list_files(location: str | os.PathLike[str], *, recursive: bool = False) -> list[str]:
    """Return the paths of the files under a directory, relative to it and sorted.

    A directory that does not exist has no files.
    """
    filesystem, path = resolve(location)
    selector = pafs.FileSelector(path, allow_not_found=True, recursive=recursive)
    prefix = path.rstrip("/") + "/"
    return sorted(
        info.path.removeprefix(prefix)
        for info in filesystem.get_file_info(selector)
        if info.type == pafs.FileType.File
    )


def size(location: str | os.PathLike[str]) -> int:
    """Return the size of a file in bytes; 0 when there is none."""
    filesystem, path = resolve(location)
    return int(filesystem.get_file_info(path).size or 0)


def make_directory(location: str | os.PathLike[str]) -> None:
    """Create a directory and its parents unless they exist."""
    filesystem, path = resolve(location)
    with _told(location):
        filesystem.create_dir(path, recursive=True)


def remove(location: str | os.PathLike[str]) -> None:
    """Delete one file, if it is there."""
    filesystem, path = resolve(location)
    with _told(location):
        if exists(location):
            filesystem.delete_file(path)


def remove_partial(location: str | os.PathLike[str]) -> None:
    """Delete what writers that were killed have left in a directory; nobody may be writing."""
    for name in list_files(location):
        if name.endswith(PARTIAL):
            remove(join(location, name))


def remove_directory(location: str | os.PathLike[str]) -> None:
    """Delete a directory and all that is in it.

    Raises:
        IrmasError: It cannot be deleted.
    """
    filesystem, path = resolve(location)
    with _told(location):
        filesystem.delete_dir(path)


@contextmanager
def write_atomically(location: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at ``location`` complete, or not at all.

    Raises:
        IrmasError: The target cannot be written: read-only, full, not permitted.
    """
    filesystem, path = resolve(location)
    with _told(location):
        if not isinstance(filesystem, pafs.LocalFileSystem):
            # Closing a stream completes the object, also after an error: open it late.
            content = BytesIO()
            yield content
            with filesystem.open_output_stream(path) as stream:
                stream.write(content.getbuffer())
            return
        filesystem.create_dir(str(Path(path).parent), recursive=True)
        beside = f"{path}.{uuid.uuid4().hex[:8]}{PARTIAL}"
        try:
            with filesystem.open_output_stream(beside) as stream:
                yield stream
            filesystem.move(beside, path)
        finally:
            Path(beside).unlink(missing_ok=True)


def open_file(location: str | os.PathLike[str]) -> BufferedIOBase:
    """Open a file for reading bytes, anywhere in it.

    Raises:
        OSError: There is no such file, or it cannot be read.
    """
    if not is_url(location):
        return Path(location).open("rb")
    filesystem, path = resolve(location)
    stream: BufferedIOBase = filesystem.open_input_file(path)
    return stream


def read_bytes(location: str | os.PathLike[str]) -> bytes:
    """Return the content of a file.

    Raises:
        IrmasError: There is no such file, or it cannot be read.
    """
    filesystem, path = resolve(location)
    with _told(location), filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


def write_json(location: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with write_atomically(location) as stream:
        stream.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(location: str | os.PathLike[str]) -> Any:
    """Return the JSON value in a file.

    Raises:
        IrmasError: There is no such file, or it is not JSON.
    """
    try:
        return json.loads(read_bytes(location))
    except ValueError as error:
        raise IrmasError(f"{location} is not JSON: {error}") from error


def write_table(location: str | os.PathLike[str], table: pa.Table, **options: Any) -> None:
    """Write a table as Parquet, whole or not at all; ``options`` go to pyarrow."""
    with write_atomically(location) as stream:
        pq.write_table(table, stream, **options)


def read_table(location: str | os.PathLike[str], columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file.

    Raises:
        IrmasError: There is no such file, or it is not Parquet with these columns.
    """
    filesystem, path = resolve(location)
    with _told(location), filesystem.open_input_file(path) as source:
        try:
            return pq.read_table(source, columns=columns)
        except pa.ArrowInvalid as error:
            reason = str(error).removeprefix("Could not open Parquet input source '<Buffer>': ")
            raise IrmasError(f"{location} is not a Parquet file: {reason}") from error


@contextmanager
def _told(location: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the operating system's refusals into one line that names the place."""
    try:
        yield
    except FileNotFoundError as error:
        raise IrmasError(f"{location}: no such file or directory") from error
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise IrmasError(f"{location}: {reason}") from error

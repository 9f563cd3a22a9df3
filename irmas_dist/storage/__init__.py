"""Files by path or URL, local or in an object store, written atomically.

A local file is written beside its target and renamed over it. An object becomes visible only
when it is complete, so its content is assembled in memory and sent at once. Errors of a file
system become one line with the location.
"""

import json
import os
import re
import stat
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from irmas_dist.errors import IrmasError, StoreError, first_line
from irmas_dist.storage.locations import Location, absolute, as_text, is_url, join
from irmas_dist.storage.locations import name_after as name_after
from irmas_dist.storage.locations import real as real
from irmas_dist.storage.locations import without_file_scheme as without_file_scheme
from irmas_dist.terminal import write_bytes

PARTIAL = ".partial"
"""Suffix of local files that are being written."""

STDOUT = "-"
"""Stands for standard output where a file is written."""

RETRY_S = 15
"""Seconds for which requests to Google Cloud Storage are repeated."""


def resolve(location: Location) -> tuple[pafs.FileSystem, str]:
    """Return the file system of ``location`` and the path in it.

    Raises:
        IrmasError: Neither pyarrow nor fsspec knows the URL's scheme.
    """
    if not is_url(location):
        return pafs.LocalFileSystem(), absolute(location)
    scheme, _, rest = str(location).partition("://")
    bucket, _, key = rest.partition("/")
    try:
        filesystem, root = _bucket(f"{scheme}://{bucket or '/'}")
    except (pa.ArrowInvalid, ValueError, OSError) as error:
        web = "; download it first" if scheme.lower() in ("http", "https") else ""
        raise IrmasError(f"cannot use {location} for storage: {error}{web}") from error
    return filesystem, f"{root.rstrip('/')}/{key}".rstrip("/") or "/"


@lru_cache(maxsize=16)
def _bucket(url: str) -> tuple[pafs.FileSystem, str]:
    """Connect to a bucket, once; a key could have ``[`` or ``#``, which are special in URLs."""
    if url.lower().startswith(("gs://", "gcs://")) and "?" not in url:
        # Unless limited, Google's client repeats a request that fails for a quarter of an hour.
        url += f"?retry_limit_seconds={RETRY_S}"
    return pafs.FileSystem.from_uri(url)


def exists(location: Location) -> bool:
    """Return whether there is a file or directory at ``location``."""
    with _located(location) as (filesystem, path):
        return filesystem.get_file_info(path).type != pafs.FileType.NotFound


def list_files(location: Location, *, recursive: bool = False) -> list[str]:
    """Return the paths of the files in a directory, relative to it and sorted.

    A directory that does not exist has no files. Those whose names are not UTF-8 are none of ours,
    and are left out.
    """
    found = []
    with _located(location) as (filesystem, path):
        selector = pafs.FileSelector(path, allow_not_found=True, recursive=recursive)
        prefix = path.rstrip("/") + "/"
        for info in filesystem.get_file_info(selector):
            if info.type == pafs.FileType.File:
                with suppress(UnicodeDecodeError):
                    found.append(info.path.removeprefix(prefix))
    return sorted(found)


def size(location: Location) -> int:
    """Return the size of a file in bytes; 0 if there is none."""
    with _located(location) as (filesystem, path):
        return int(filesystem.get_file_info(path).size or 0)


def make_directory(location: Location) -> None:
    """Create a directory and its parents unless they exist.

    Raises:
        IrmasError: It is a file, or cannot be created.
    """
    with _located(location) as (filesystem, path):
        if filesystem.get_file_info(path).type == pafs.FileType.File:
            raise IrmasError(f"{location} is a file: name a directory")
        filesystem.create_dir(path, recursive=True)


def remove(location: Location) -> None:
    """Delete a file if it exists."""
    with _located(location) as (filesystem, path):
        if exists(location):
            filesystem.delete_file(path)


def remove_partial(location: Location) -> None:
    """Delete what killed writers left of `write_atomically` in a directory; none may be active."""
    for name in list_files(location):
        # Other files with this suffix, such as unfinished downloads, are resumed.
        if re.fullmatch(rf"\.[0-9a-f]{{32}}{re.escape(PARTIAL)}", name):
            remove(join(location, name))


def remove_directory(location: Location) -> None:
    """Delete a directory with its content if it exists."""
    with _located(location) as (filesystem, path), suppress(FileNotFoundError):
        filesystem.delete_dir(path)


@contextmanager
def write_atomically(location: Location) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at ``location`` when the block ends without error.

    Of a link, the target is replaced. Devices and FIFOs are written to directly, and `STDOUT` is
    standard output.

    Raises:
        IrmasError: The target cannot be written: read-only, full, not permitted, a directory.
    """
    if os.fspath(location) == STDOUT:
        assembled = BytesIO()
        yield assembled
        write_bytes(assembled.getvalue())
        return
    with _located(location) as (filesystem, path):
        if not isinstance(filesystem, pafs.LocalFileSystem):
            content = BytesIO()
            yield content
            # Closing a stream completes the object, whatever it has by then: no interruption, which
            # reaches the main thread only, may come between.
            with ThreadPoolExecutor(1) as pool:
                pool.submit(_put, filesystem, path, content.getbuffer()).result()
            return
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            raise IrmasError(f"{location} is a directory: name a file")
        if mode and not stat.S_ISREG(mode):
            with Path(path).open("wb") as stream:
                yield stream
            return
        target = Path(path).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not named after the target, whose name may have the maximum length.
        beside = target.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
        try:
            with filesystem.open_output_stream(str(beside)) as stream:
                yield stream
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)


def _put(filesystem: pafs.FileSystem, path: str, content: memoryview) -> None:
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


def require_bucket(url: Location) -> None:
    """Refuse the URL of an object whose bucket does not exist, before there is something to write.

    Raises:
        IrmasError: It does not.
    """
    if not is_url(url):
        return
    filesystem, path = resolve(url)
    if filesystem.type_name not in ("s3", "gcs"):  # Others have no buckets.
        return
    bucket = path.partition("/")[0]
    with suppress(OSError):  # Not everyone who may write may look.
        if filesystem.get_file_info(bucket).type == pafs.FileType.NotFound:
            raise IrmasError(f"{url}: there is no bucket {bucket}")


def _mode(path: str) -> int:
    """Return the mode of what is at a path, by which its type is known; 0 if nothing is."""
    try:
        return Path(path).stat().st_mode
    except FileNotFoundError:
        return 0


def open_file(location: Location) -> BufferedIOBase:
    """Open a file for reading bytes at any position.

    Raises:
        OSError: There is no such file, or it cannot be read.
    """
    if not is_url(location):
        return Path(location).open("rb")
    try:
        filesystem, path = resolve(location)
        stream: BufferedIOBase = filesystem.open_input_file(path)
    # Such as of a store that does not answer, or of an empty name between two slashes.
    except (IrmasError, pa.ArrowInvalid) as error:
        raise OSError(first_line(error)) from error
    return stream


def read_bytes(location: Location, most: int | None = None) -> bytes:
    """Return the content of a file, or its beginning of at most so many bytes."""
    with _located(location) as (filesystem, path), filesystem.open_input_stream(path) as stream:
        return bytes(stream.read(most))


def write_json(location: Location, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with write_atomically(location) as stream:
        stream.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(location: Location) -> Any:
    """Return the JSON value in a file.

    Raises:
        IrmasError: There is no such file, or it is not JSON.
    """
    try:
        return json.loads(read_bytes(location))
    except ValueError as error:
        raise IrmasError(f"{location} is not JSON: {error}") from error


@contextmanager
def damage_reported(location: Location, advice: str) -> Iterator[None]:
    """Turn what reading unexpected content raises into one line that ends with the advice."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {error}".splitlines()[0]
        raise IrmasError(f"{location} is damaged ({found}); {advice}") from error


def write_table(location: Location, table: pa.Table, **options: Any) -> None:
    """Write a table as Parquet, atomically; ``options`` go to pyarrow."""
    with write_atomically(location) as stream:
        pq.write_table(table, stream, **options)


def read_table(location: Location, columns: list[str] | None = None, advice: str = "") -> pa.Table:
    """Read a Parquet file.

    Args:
        location: Path or URL.
        columns: Those to read; None for all.
        advice: What to do if it is damaged.

    Raises:
        IrmasError: There is no such file, or it is not Parquet with these columns.
    """
    with _opened_parquet(location, advice) as source:
        return pq.read_table(source, columns=columns)


def read_schema(location: Location) -> pa.Schema:
    """Read the schema of a Parquet file.

    Raises:
        IrmasError: There is no such file, or it is not Parquet.
    """
    with _opened_parquet(location, "") as source:
        return pq.read_schema(source)


@contextmanager
def _opened_parquet(location: Location, advice: str) -> Iterator[pa.NativeFile]:
    with _located(location) as (filesystem, path), filesystem.open_input_file(path) as source:
        try:
            yield source
        except pa.ArrowException as error:
            if named := re.match(r"Multiple matches for FieldRef\.Name\((.*?)\) in ", str(error)):
                raise IrmasError(f"{location} has several columns {named[1]!r}") from error
            reason = str(error).removeprefix("Could not open Parquet input source '<Buffer>': ")
            ending = f"; {advice}" if advice else ""
            raise IrmasError(
                f"{location} is not a Parquet file: {reason.rstrip('.')}{ending}"
            ) from error


@contextmanager
def _located(location: Location) -> Iterator[tuple[pafs.FileSystem, str]]:
    """Yield file system and path, and turn their errors into one line with the location."""
    if as_text(location) != os.fspath(location):
        raise IrmasError(f"{as_text(location)}: its name is not UTF-8; rename it")
    filesystem, path = resolve(location)
    try:
        yield filesystem, path
    except FileNotFoundError as error:
        raise IrmasError(f"{location}: no such file or directory") from error
    except pa.ArrowInvalid as error:  # such as of an empty name between two slashes
        raise IrmasError(f"{location}: {first_line(error)}") from error
    except OSError as error:
        # pyarrow's own begin with what it did, and the path once more.
        reason = re.sub(r".* Detail: \[errno \d+\] ", "", error.strerror or str(error), flags=re.S)
        reason = reason.partition("\n")[0].partition(" error_info=")[0]
        raise StoreError(f"{location}: {reason}") from error

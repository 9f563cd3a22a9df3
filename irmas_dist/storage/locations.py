"""Locations: paths and URLs as text, without a look at what is there."""

import hashlib
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

MAX_NAME_BYTES = 255
"""Longest file name on common file systems."""

Location = str | os.PathLike[str]
"""A local path, or the URL of an object store such as ``s3://bucket/key``."""


def is_url(location: Location) -> bool:
    """Return whether ``location`` is a URL."""
    return "://" in str(location)


def absolute(location: Location) -> str:
    """Return ``location`` for use in another process, which may have another directory."""
    return str(location) if is_url(location) else str(Path(location).expanduser().absolute())


def without_file_scheme(location: str) -> str:
    """Return the path of a ``file://`` URL; other locations as they are."""
    if location[:7].lower() == "file://":
        return unquote(urlsplit(location).path)
    return location


def real(location: Location) -> str:
    """Return the same text for all paths of a file, and URLs as they are written."""
    location = without_file_scheme(str(location))
    return str(location) if is_url(location) else os.path.realpath(absolute(location))


def as_text(location: Location) -> str:
    """Return a location as text, with ``?`` for the bytes of a name that are not UTF-8."""
    return os.fspath(location).encode("utf-8", "replace").decode()


def name_after(name: str, suffix: str) -> str:
    """Return a path named after another: ``name`` with ``suffix`` appended.

    Where the result would be too long for a file system, or ``name`` is not UTF-8, a digest at
    its end keeps it distinct from others.
    """
    folder, _, last = as_text(name).rpartition("/")
    if as_text(name) == name and len(f"{last}{suffix}".encode()) <= MAX_NAME_BYTES:
        return name + suffix
    end = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{suffix}"
    kept = last.encode()[: MAX_NAME_BYTES - len(end)].decode(errors="ignore")
    return f"{folder}/{kept}{end}" if folder else kept + end


def join(location: Location, *parts: str) -> str:
    """Return ``location`` with ``parts`` appended."""
    return "/".join([str(location).rstrip("/"), *parts])

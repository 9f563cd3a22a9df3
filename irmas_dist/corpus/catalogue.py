"""The catalogue of IRMAS: every file of the data set.

A catalogue is two tables: ``training.csv`` with the columns ``path`` and ``md5``, and
``testing.csv`` with ``path``, ``md5`` and ``instruments`` (``gac|voi``). That of IRMAS comes
with the package; `corpus.irmas` counts what it lists.
"""

import lzma
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from irmas_dist import storage
from irmas_dist.corpus.csv_tables import read_csv
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS

COLUMNS = {TRAINING: ("path", "md5"), TESTING: ("path", "md5", "instruments")}
"""Columns of the table of each part."""

_SHIPPED = Path(__file__).parent / "irmas_catalogue"


@dataclass(frozen=True)
class CatalogueEntry:
    """A file of the data set."""

    path: str  # relative to the root of the tree; Unicode NFD, as in IRMAS's archives
    md5: str | None  # None when it is unknown
    part: str  # "training" or "testing"
    instruments: tuple[str, ...]  # codes of its labels, at least one: in training, its folder's


def read_catalogue(directory: Path | None = None) -> list[CatalogueEntry]:
    """Read a catalogue and check it.

    Args:
        directory: Holds ``training.csv`` and ``testing.csv``; None for the catalogue of IRMAS,
            which comes with the package.

    Raises:
        IrmasError: A table is missing, is not CSV in UTF-8 or lacks a column; a path is not that
            of a WAV file below the root, or occurs twice; an instrument is not one of IRMAS; a
            training and a testing file are identical; or no file is listed.
    """
    entries = [*_read_part(directory, TRAINING), *_read_part(directory, TESTING)]
    if not entries:
        raise IrmasError(f"{directory}: its training.csv and testing.csv list no files")
    paths: set[str] = set()
    parts: dict[str, str] = {}
    for entry in entries:
        if entry.path in paths:
            raise IrmasError(f"{directory}: lists {entry.path!r} more than once")
        paths.add(entry.path)
        if entry.md5 and parts.setdefault(entry.md5, entry.part) != entry.part:
            raise IrmasError(
                f"{directory}: lists the same md5 for {entry.path!r} and for a training file; "
                "they cannot be identical, because their durations differ"
            )
    return entries


def _read_part(directory: Path | None, part: str) -> list[CatalogueEntry]:
    if directory is None:
        file = _SHIPPED / f"{part}.csv.xz"
        data = lzma.decompress(storage.read_bytes(file))
    else:
        file = directory / f"{part}.csv"
        data = storage.read_bytes(file)
    rows = read_csv(data, str(file), COLUMNS[part]).rows
    return [_entry(row.values, part, row.where) for row in rows]


def _entry(row: Mapping[str, str], part: str, where: str) -> CatalogueEntry:
    """Check a row of a table and make it an entry."""
    name = unicodedata.normalize("NFD", row["path"])
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".wav":
        raise IrmasError(f"{where}: {name!r} is not the path of a .wav file below the tree's root")
    codes = (
        [path.parent.name]
        if part == TRAINING
        else [code.strip() for code in row["instruments"].split("|")]
    )
    for code in codes:
        if code not in IRMAS:
            raise IrmasError(
                f"{where}: unknown instrument {code!r} of {name!r}; "
                f"IRMAS has {', '.join(IRMAS.codes)}"
            )
    return CatalogueEntry(str(path), row["md5"] or None, part, tuple(codes))

"""A table of clips: which files there are, what plays in them, and what nobody knows of.

CSV, TSV or Parquet with the column ``path``, relative to the table or to another root, or a URL;
and either ``instruments``, codes separated by ``|``, or one column per instrument with 1, 0, or
``?`` or nothing for unknown. Optional are ``part`` (training, where it says nothing, validation or
testing) and ``group``: clips that share it stay on one side of a split. Other columns are ignored.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from irmas_dist import storage
from irmas_dist.corpus.csv_tables import CsvRow, CsvTable, read_csv
from irmas_dist.corpus.facts import read_facts
from irmas_dist.corpus.manifest import PARTS, TRAINING
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import Vocabulary
from irmas_dist.terminal import progress

COLUMNS = ("path", "instruments", "part", "group")
"""Columns with a meaning of their own; others that are named like an instrument are its labels."""

READERS = 32
"""Files that are read in parallel: those of an object store are answered slowly."""

LABELS = {"1": True, "1.0": True, "0": False, "0.0": False, "?": None, "": None}


def index_table(
    table: str,
    vocabulary: Vocabulary,
    root: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Read every audio file of a table into rows of a manifest.

    Args:
        table: Path or URL of the table.
        vocabulary: The instruments.
        root: Folder that paths are relative to; None for the table's own.
        columns: What the table calls some of `COLUMNS` or of the instruments.

    Returns:
        Rows by the columns of `manifest.SCHEMA`, and in ``note`` what is unusual of the audio;
        groups of identical files are not joined yet.

    Raises:
        IrmasError: A column is missing, a value is none that its column may have, or a path is
            listed twice; with the line and the column.
    """
    called = {name: (columns or {}).get(name, name) for name in (*COLUMNS, *vocabulary.codes)}
    if strange := sorted(set(columns or ()) - set(called)):
        raise IrmasError(f"--column {strange[0]}: the columns are {', '.join(called)}")
    content = _read(table, (called["path"],))
    by_column = called["instruments"] not in content.columns
    if by_column and (missing := [c for c in vocabulary.codes if called[c] not in content.columns]):
        raise IrmasError(
            f"{table} has neither a column {called['instruments']!r} nor one for {missing[0]}: "
            "give every instrument a column, with ? where it is unknown"
        )
    folder = root or _parent(table)
    rows: list[dict[str, Any]] = []
    lines: dict[str, str] = {}
    for line in content.rows:
        row = _row(line, called, vocabulary, by_column, folder)
        if row["clip_id"] in lines:
            raise IrmasError(f"{line.where}: {row['clip_id']!r} is in {lines[row['clip_id']]} too")
        lines[row["clip_id"]] = line.where
        rows.append(row)
    if not rows:
        raise IrmasError(f"{table} lists no clip")
    with progress("index", len(rows), "files") as advance, ThreadPoolExecutor(READERS) as pool:
        for row, facts in zip(rows, pool.map(_facts, rows), strict=True):
            row |= facts
            advance(1)
    return rows


def _row(
    line: CsvRow,
    called: Mapping[str, str],
    vocabulary: Vocabulary,
    by_column: bool,
    folder: str,
) -> dict[str, Any]:
    """Return the columns of a manifest that a line of the table gives."""

    def value(name: str) -> str:
        return line.values.get(called[name], "").strip()

    def refuse(name: str, allowed: str) -> IrmasError:
        return IrmasError(f"{line.where}, column {called[name]!r}: {value(name)!r} is {allowed}")

    path = value("path")
    if not path:
        raise refuse("path", "no path")
    part = value("part") or TRAINING
    if part not in PARTS:
        raise refuse("part", f"none of {', '.join(PARTS)}")
    unknown: list[str] = []
    if by_column:
        known = {code: value(code) for code in vocabulary.codes}
        for code, text in known.items():
            if text not in LABELS:
                raise refuse(code, "neither 1, 0, ? nor empty")
        codes = [code for code, text in known.items() if LABELS[text]]
        unknown = [code for code, text in known.items() if LABELS[text] is None]
    else:
        codes = [code.strip() for code in value("instruments").split("|") if code.strip()]
        for code in codes:
            if code not in vocabulary:
                allowed = f"no instrument of {', '.join(vocabulary.codes)}"
                where = f"{line.where}, column {called['instruments']!r}"
                raise IrmasError(f"{where}: {code!r} is {allowed}")
    clip_id = unicodedata.normalize("NFC", path.removeprefix("./"))
    clip_id = str(PurePosixPath(clip_id).with_suffix("")) if not storage.is_url(path) else clip_id
    return {
        "clip_id": clip_id,
        "path": path if storage.is_url(path) else _below(folder, path),
        "part": part,
        "instruments": codes,
        "unknown": unknown,
        "group": f"group {value('group')}" if value("group") else f"file {clip_id}",
    }


def _read(table: str, needed: Sequence[str]) -> CsvTable:
    """Return the content of a table, with every value as text."""
    if PurePosixPath(table).suffix.lower() not in (".parquet", ".pq"):
        return read_csv(storage.read_bytes(table), table, needed)
    content = storage.read_table(table)
    for column in needed:
        if column not in content.column_names:
            has = ", ".join(content.column_names)
            raise IrmasError(f"{table} has no column {column!r}; it has {has}")
    return CsvTable(
        tuple(content.column_names),
        [
            CsvRow(f"{table}, row {number}", {name: _text(value) for name, value in row.items()})
            for number, row in enumerate(content.to_pylist(), start=1)
        ],
    )


def _text(value: Any) -> str:
    """Return a value of Parquet as CSV would have it."""
    if isinstance(value, list):
        return "|".join(map(str, value))
    if isinstance(value, bool):
        return str(int(value))
    return "" if value is None or value != value else str(value)


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    return asdict(read_facts(row["path"]))


def _parent(table: str) -> str:
    if storage.is_url(table):
        return table.rpartition("/")[0]
    return str(Path(storage.absolute(table)).parent)


def _below(folder: str, path: str) -> str:
    if storage.is_url(folder):
        return storage.join(folder, path)
    return str(Path(folder, Path(path).expanduser()))

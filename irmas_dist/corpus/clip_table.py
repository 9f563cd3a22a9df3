"""A table of clips: which files there are, what plays in them, and what nobody knows of.

CSV, TSV or Parquet with the column ``path``, relative to the table or to another root, or a URL,
and labels (`label_columns`). Optional are ``part`` (training, where it says nothing, validation or
testing), ``group``: clips that share it stay on one side of a split, ``source``: a collection of
groups, such as a sample library, and ``start`` and ``end``, in seconds: the clip is that span of
its file. Other columns are named and ignored.
"""

import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.config.corpus import TABLE_COLUMNS
from irmas_dist.corpus.clip_rows import OTHER_NAMES, as_found, clip_row, part_of
from irmas_dist.corpus.csv_tables import CsvTable
from irmas_dist.corpus.facts import read_spans, span_of
from irmas_dist.corpus.label_columns import (
    COLUMN_ADVICE,
    INSTRUMENTS,
    LabelColumns,
    nfc,
    read_clip_table,
)
from irmas_dist.corpus.manifest import PARTS
from irmas_dist.errors import IrmasError, listed
from irmas_dist.instruments import Vocabulary
from irmas_dist.terminal import progress, say

READERS = 32
"""Files that are read in parallel: those of an object store are answered slowly."""

MOST_NAMED = 30
"""Ignored columns that are named."""

TEST_OR_NOT = {*PARTS, *OTHER_NAMES, "dev", "eval"}
"""Values of a column that tells training from testing; some mean training by "dev"."""

NEAR = 0.8
"""Likeness (`difflib.get_close_matches`) from which a column that is ignored may be misspelt."""

UNIT = re.compile(r"s$|[ _(\[]+(s|sec|secs|seconds?)[)\]]?$")
"""A plural, or the unit in the name of a column such as ``start_s``."""

Lines = dict[str | tuple[str, float, float | None], tuple[str, str]]
"""The line of each file with its span, and of each clip id, with the path as it is written."""

MANIFEST = ("clip_id", "unknown", "md5")
"""Columns by which a manifest is known."""


def parse_table(
    table: str,
    vocabulary: Vocabulary,
    root: str | None = None,
    columns: Mapping[str, str] | None = None,
    soft: bool = False,
) -> list[dict[str, Any]]:
    """Read a table, and no audio, into rows that `add_audio` completes.

    Args:
        table: Path or URL of the table.
        vocabulary: The instruments.
        root: Folder that paths are relative to; None for the table's own.
        columns: What the table calls some of `TABLE_COLUMNS` or of the instruments.
        soft: Whether labels between 0 and 1 are expected; otherwise they are refused.

    Raises:
        IrmasError: A column is missing or may be misspelt, a value is none that its column may
            have, or a path is listed twice; with the line and the column.
    """
    called = {
        name: nfc((columns or {}).get(name, name)) for name in (*TABLE_COLUMNS, *vocabulary.codes)
    }
    if strange := sorted(set(columns or ()) - set(called)):
        raise IrmasError(f"--column {strange[0]}: the columns are {', '.join(called)}")
    content = read_clip_table(table, (called["path"],), COLUMN_ADVICE)
    if is_manifest(content):
        raise IrmasError(
            f"{table} is a manifest, of which a table would lose unknown labels and spans: give it "
            "to irmas extract, or index what it was made from again"
        )
    _require_columns(columns or {}, called, content.columns, table)
    columns_of_labels = LabelColumns.of(content, table, vocabulary, called)
    name_ignored(called, columns or {}, content, table, mappable=True)
    folder = storage.absolute(root) if root else _parent(table)
    rows: list[dict[str, Any]] = []
    lines: Lines = {}
    for line in content.rows:
        row = clip_row(line, called, folder, columns_of_labels.labels(line, soft=soft))
        _require_new(row, line.values[called["path"]], line.where, lines)
        rows.append(row)
    if not rows:
        raise IrmasError(f"{table} lists no clip")
    if not columns_of_labels.by_column and (
        none := sum(not row["instruments"] and not row["unknown"] for row in rows)
    ):
        empty = f"{called[INSTRUMENTS]!r} being empty"
        say(f"clips in which no instrument plays, {empty}: {none:,}")
    if columns_of_labels.by_column and (
        never := [code for code in vocabulary.codes if _is_never_absent(code, rows)]
    ):
        say(
            f"never known to be absent: {', '.join(never)}: an empty cell is an unknown label; "
            "write 0 where an instrument does not play"
        )
    return rows


def add_audio(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read the audio files of a table's rows, and complete the rows.

    Returns:
        The same rows, by the columns of `manifest.SCHEMA`, and in ``note`` what is unusual of the
        audio; groups of identical files are not joined yet.
    """
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_file[row["path"]].append(row)
    with progress("index", len(rows), "clips") as advance, ThreadPoolExecutor(READERS) as pool:
        for clips in pool.map(_add_facts, by_file.values()):
            advance(len(clips))
    return rows


def is_manifest(content: CsvTable) -> bool:
    """Return whether a table is a manifest, whose columns mean something else."""
    return set(MANIFEST) <= set(content.columns)


def _is_never_absent(code: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether an instrument plays in all clips of which it is known, and not of all."""
    plays, unknown = (sum(code in row[name] for row in rows) for name in ("instruments", "unknown"))
    return bool(plays and unknown) and plays + unknown == len(rows)


def _require_new(row: Mapping[str, Any], path: str, where: str, lines: Lines) -> None:
    """Refuse the row of a clip, or of a clip id, that an earlier line has; else add it to those.

    Args:
        row: The row.
        path: Its path as the table writes it.
        where: Its line.
        lines: Of earlier rows.
    """
    span = (storage.real(row["path"]), row["start_s"] or 0.0, row["end_s"])
    if span in lines:
        earlier, other = lines[span]
        written = "" if other == path else f", as {other!r}"
        raise IrmasError(
            f"{where}: {row['clip_id']!r} is in {earlier} too{written}: give each clip one line, "
            "with the codes of its instruments separated by |; spans, a start and an end"
        )
    if row["clip_id"] in lines:
        earlier, other = lines[row["clip_id"]]
        but_for = "its Unicode form" if nfc(path) == nfc(other) else "its suffix"
        raise IrmasError(
            f"{where}: {path!r} has the name of {other!r} ({earlier}) but for {but_for}: rename one"
        )
    lines[span] = lines[row["clip_id"]] = where, path


def _require_columns(
    named: Mapping[str, str], called: Mapping[str, str], has: Sequence[str], table: str
) -> None:
    """Refuse to call columns what the table lacks, or labels what is something else, too."""
    for name in named:
        column = called[name]
        if column not in has:
            raise IrmasError(
                f"--column {name}={column}: {table} has no column {column!r}; "
                f"it has {', '.join(has)}"
            )
        same = [one for one in called if called[one] == column]
        labels = [one for one in same if one == INSTRUMENTS or one not in TABLE_COLUMNS]
        if labels and len(same) > 1:
            raise IrmasError(f"--column {name}={column}: {column!r} would be {' and '.join(same)}")


def name_ignored(
    called: Mapping[str, str],
    named: Mapping[str, str],
    content: CsvTable,
    table: str,
    *,
    mappable: bool = False,
) -> None:
    """Say which columns have no meaning; refuse what seems to be one that is missing.

    These are ``Part`` or ``groups`` where there is no other, and what tells training from testing.

    Args:
        called: What the table calls its columns.
        named: Those of them that it was told to call so.
        content: The table.
        table: Its name.
        mappable: Whether ``--column`` can say what a column is.

    Raises:
        IrmasError: A column seems to be one that is missing.
    """

    def same_as(name: str, column: str) -> str:
        return f"add --column {shlex.quote(f'{name}={column}')}" if mappable else f"call it {name}"

    has = content.columns
    ignored = [column for column in has if column not in called.values()]
    missing = [name for name in TABLE_COLUMNS if called[name] not in has and name not in named]
    missing = [name for name in missing if name != INSTRUMENTS]  # Instruments have columns then.
    told = []
    for column in ignored:
        for name in missing:
            if UNIT.sub("", column.casefold().strip("_ ")) == name:
                raise IrmasError(
                    f"{table} has the column {column!r} and no {name!r}: if they are the same, "
                    f"{same_as(name, column)}; otherwise rename the column"
                )
        spans = mappable and "end" in missing and "start" not in missing
        if spans and column.casefold().startswith("duration"):
            raise IrmasError(
                f"{table} has the columns {called['start']!r} and {column!r}, and no 'end': "
                "without it each clip lasts to the end of its file; give the end of each in "
                "seconds, or rename the column"
            )
        if "part" in missing:
            without = "all clips are for training" if mappable else "names tell the part"
            _require_no_parts(content, column, table, without, same_as("part", column))
        near = get_close_matches(column.casefold(), missing, n=1, cutoff=NEAR)
        ending = ", see --column?)" if mappable else "?)"
        told.append(f"{column} (for {near[0]}{ending}" if near else column)
    if told:
        told.sort(key=lambda one: not one.endswith("?)"))
        say(f"columns that are ignored: {listed(told, MOST_NAMED)}")


def _require_no_parts(content: CsvTable, column: str, table: str, without: str, same: str) -> None:
    """Refuse to ignore a column that tells training from testing."""
    values = {row.values[column].strip().casefold() for row in content.rows} - {""}
    if len(values) > 1 and values <= TEST_OR_NOT:
        understood = all(map(part_of, values))
        allowed = "" if understood else f", with the values {', '.join(PARTS)}"
        raise IrmasError(
            f"{table} has the column {column!r} with {' and '.join(sorted(values))}, and no "
            f"'part', without which {without}: if it says which clips are which, {same}"
            f"{allowed}; otherwise leave it out"
        )


def _add_facts(clips: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Add the facts of clips of one file to their rows."""
    path, spans = clips[0]["path"], list(map(span_of, clips))
    if not storage.is_url(path):
        path = as_found(path)
    for row, facts in zip(clips, read_spans(path, spans), strict=True):
        row |= {"path": path, **asdict(facts)}
    return clips


def _parent(table: str) -> str:
    if storage.is_url(table):
        return table.rpartition("/")[0]
    return str(Path(storage.absolute(table)).parent)

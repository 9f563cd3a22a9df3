"""The labels in a table of clips: one column of codes, or one column per instrument.

``instruments`` has the codes of all that play, separated by ``|``. Without it, every instrument has
a column with 1, 0, or ``?`` or nothing for unknown; values between are soft labels, where these are
expected. Of clips of which nothing is known, ``instruments`` is ``?``.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from irmas_dist import storage
from irmas_dist.corpus.csv_tables import CsvRow, CsvTable, parse_number, read_csv
from irmas_dist.errors import IrmasError, first_line
from irmas_dist.instruments import Vocabulary

INSTRUMENTS = "instruments"
"""The column of codes."""

UNKNOWN_LABELS = ("", "?")
"""What is written where nobody knows."""

COLUMN_ADVICE = "; if one of these has the paths, add --column path=NAME"

INDEX = re.compile(r"__index_level_\d+__$")
"""Columns in which pandas keeps the numbers of rows."""

BOOLEANS = {"true": 1.0, "false": 0.0}
"""How programs write 1 and 0 of columns that have nothing else."""


@dataclass(frozen=True)
class LabelColumns:
    """Where the labels of a table are.

    Attributes:
        table: The content of the table.
        called: What the table calls `INSTRUMENTS` and the instruments, where it differs.
        vocabulary: The instruments.
        by_column: Whether each has a column.
    """

    table: CsvTable
    called: Mapping[str, str]
    vocabulary: Vocabulary
    by_column: bool

    @classmethod
    def of(
        cls,
        table: CsvTable,
        name: str,
        vocabulary: Vocabulary,
        called: Mapping[str, str] | None = None,
    ) -> "LabelColumns":
        """Find the columns of labels.

        Raises:
            IrmasError: There is no column of codes, and an instrument has no column; or there
                are both.
        """
        named = called or {}
        codes = named.get(INSTRUMENTS, INSTRUMENTS)
        by_column = codes not in table.columns
        own = [named.get(code, code) for code in vocabulary.codes]
        missing = [
            code
            for code, column in zip(vocabulary.codes, own, strict=True)
            if column not in table.columns
        ]
        if not by_column and len(missing) < len(vocabulary):
            column = next(column for column in own if column in table.columns)
            raise IrmasError(
                f"{name} has labels twice, in the column {codes!r} and in {column!r}: "
                "leave one of them out"
            )
        if by_column and missing:
            raise IrmasError(
                f"{name} has neither a column {codes!r} nor one for {missing[0]}: give every "
                "instrument a column, with ? where it is unknown, or name a recipe of its "
                "instruments with --config"
            )
        return cls(table, named, vocabulary, by_column)

    def labels(self, row: CsvRow, *, soft: bool) -> dict[str, float | None]:
        """Return labels from 0, absent, to 1, present, None where unknown; others are absent.

        Raises:
            IrmasError: A value is no label, or a soft one that is not expected, or a code is no
                instrument; with the line and the column.
        """
        labels: dict[str, float | None] = {}
        if not self.by_column:
            column = self.called.get(INSTRUMENTS, INSTRUMENTS)
            if row.values[column].strip() == "?":
                return dict.fromkeys(self.vocabulary.codes)
            for code in split_codes(row.values[column]):
                if code not in self.vocabulary:
                    allowed = f"no instrument of {', '.join(self.vocabulary.codes)}"
                    raise IrmasError(
                        f"{row.where}, column {column!r}: {code!r} is {allowed}{self._hint(code)}"
                    )
                labels[code] = 1.0
            return labels
        for code in self.vocabulary.codes:
            column = self.called.get(code, code)
            text = row.values[column].strip()
            label = read_label(text)
            expected = "; --soft takes values between 0 and 1" if label == label else ""
            if label != label or (label not in (None, 0.0, 1.0) and not soft):
                raise IrmasError(
                    f"{row.where}, column {column!r}: {text!r} is neither 1, 0, ? nor "
                    f"empty{expected}"
                )
            # As the manifest stores it, so that what is a half there is one here.
            labels[code] = None if label is None else float(np.float32(label))
        return labels

    def _hint(self, text: str) -> str:
        """Say what may be meant by a text that is no code."""
        names = zip(self.vocabulary.names, self.vocabulary.codes, strict=True)
        known = {name.casefold(): code for name, code in names}
        known |= {code.casefold(): code for code in self.vocabulary.codes}
        meant = [known.get(one.strip().casefold()) for one in re.split("[,;/]", text)]
        codes = [code for code in meant if code is not None]
        return f"; write {'|'.join(codes)}" if len(codes) == len(meant) else ""


def read_label(text: str) -> float | None:
    """Return a label from 0, absent, to 1, present; None where unknown, NaN if it is none."""
    if text in UNKNOWN_LABELS:
        return None
    try:
        label = BOOLEANS[text.casefold()] if text.casefold() in BOOLEANS else parse_number(text)
    except ValueError:
        return float("nan")
    return label if 0 <= label <= 1 else float("nan")


def split_codes(text: str) -> list[str]:
    """Return the codes in a value of the column of codes, each once, in Unicode NFC."""
    return list(dict.fromkeys(nfc(code.strip()) for code in text.split("|") if code.strip()))


def read_clip_table(table: str, needed: Sequence[str], advice: str = "") -> CsvTable:
    """Return the content of a table, with every value as text, and names of columns in NFC.

    Args:
        table: Path or URL of CSV, TSV or Parquet.
        needed: Columns that it must have.
        advice: What to do if one is missing.

    Raises:
        IrmasError: It cannot be read, or lacks a column.
    """
    if "path" not in needed:  # One that --column names.
        advice = ""
    if PurePosixPath(table).suffix.lower() not in (".parquet", ".pq"):
        return _named_in_nfc(read_csv(storage.read_bytes(table), table, needed, advice), table)
    content = storage.read_table(table)
    content = content.drop_columns([name for name in content.column_names if INDEX.match(name)])
    names = tuple(content.column_names)
    for column in needed:
        if column not in names:
            has = ", ".join(names)
            raise IrmasError(f"{table} has no column {column!r}; it has {has}{advice}")
    columns = [_texts(content.column(name), f"{table}, column {name!r}") for name in names]
    rows = [
        CsvRow(f"{table}, row {number}", dict(zip(names, values, strict=True)))
        for number, values in enumerate(zip(*columns, strict=True), start=1)
    ]
    return _named_in_nfc(CsvTable(names, rows), table)


def nfc(text: str) -> str:
    """Return a text in Unicode NFC, as instrument codes and clip ids are everywhere."""
    return unicodedata.normalize("NFC", text)


def _named_in_nfc(table: CsvTable, name: str) -> CsvTable:
    columns = Counter(map(nfc, table.columns))
    for column, times in columns.items():
        if times > 1:
            raise IrmasError(f"{name} has the column {column!r} {times} times, in Unicode NFC")
    return CsvTable(
        tuple(columns),
        [
            CsvRow(row.where, {nfc(name): value for name, value in row.values.items()})
            for row in table.rows
        ],
    )


def _texts(column: pa.ChunkedArray, where: str) -> list[str]:
    """Return the values of a column of Parquet as CSV would have them.

    Raises:
        IrmasError: One has no text, such as bytes that are not UTF-8, or a day after year 9999.
    """
    try:
        # A list that is missing is no empty one.
        missing = "?" if pa.types.is_nested(column.type) else ""
        return [missing if value is None else _text(value) for value in column.to_pylist()]
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise IrmasError(f"{where} has a value that cannot be read: {first_line(error)}") from error


def _text(value: Any) -> str:
    """Return a value of Parquet as CSV would have it."""
    if isinstance(value, list):
        return "|".join(map(str, value))
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value != value else str(value)

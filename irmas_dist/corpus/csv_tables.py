"""CSV: one reader for all tables that are given in it.

UTF-8, with or without a byte order mark, and with any line ends. The first line names the
columns, in any order. Values are separated by commas, semicolons or tabs: by that under which the
first line has most of the columns that are needed, or by that which Excel names in a line before,
such as ``sep=;``. Lines without any value are skipped, and white space around values does not
matter. A decimal comma is read as a point.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irmas_dist.errors import IrmasError

NAMED = re.compile(r'"?sep=([,;\t])"?[,;\t]*')
"""The line in which Excel names the separator."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class CsvRow:
    """A line of a table: its file and line number, and its values by column."""

    where: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class CsvTable:
    """The named columns of a table, in their order, and its lines."""

    columns: tuple[str, ...]
    rows: list[CsvRow]


def read_csv(data: bytes, name: str, columns: Sequence[str], advice: str = "") -> CsvTable:
    """Read a table.

    Args:
        data: The content of the file.
        name: The file's name, for errors.
        columns: The columns that are needed; there may be others.
        advice: What to do if one is missing.

    Raises:
        IrmasError: It is not CSV in UTF-8, a needed column is missing, a column is named twice or
            has values and no name, unless it is the first and numbers the lines, or a line has not
            as many values as there are columns.
    """
    separator, lines = _lines(data, name, columns)
    header = lines[0][1] if lines else []
    named = tuple(filter(None, header))
    separated = f"separated by {SEPARATORS[separator]}"
    for column, times in Counter(named).items():
        if times > 1:
            raise IrmasError(f"{name} has the column {column!r} {times} times, {separated}")
    for column in columns:
        if column not in named:
            has = f"{separated} it has {', '.join(named)}{advice}" if named else "it is empty"
            raise IrmasError(
                f"{name} has no column {column!r}; it needs {', '.join(columns)}; {has}"
            )
    first = [values[0] for _, values in lines[1:]]
    # As pandas and R write the numbers of rows.
    numbered = all(map(str.isdecimal, first)) and len(set(first)) == len(first)
    rows = []
    for number, values in lines[1:]:
        where = f"{name}, line {number}"
        if len(values) != len(header):
            counts = f"{len(values)} for {len(header)}, {separated}"
            raise IrmasError(f"{where}: not as many values as columns: {counts}")
        for position, (column, value) in enumerate(zip(header, values, strict=True), start=1):
            if value and not column and not (numbered and position == 1):
                raise IrmasError(f"{where}: {value!r} is in column {position}, which has no name")
        rows.append(CsvRow(where, dict(zip(header, values, strict=True))))
    return CsvTable(named, rows)


def parse_number(text: str) -> float:
    """Return a number that is written with a decimal point or comma.

    Raises:
        ValueError: It is no number, or is NaN or infinite.
    """
    if not re.fullmatch(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?", text):
        raise ValueError(f"{text!r} is no number")
    number = float(text.replace(",", "."))
    if math.isinf(number):
        raise ValueError(f"{text!r} is too large")
    return number


def _lines(
    data: bytes, name: str, columns: Sequence[str]
) -> tuple[str, list[tuple[int, list[str]]]]:
    """Return the separator, and the number and the values of each line that has any."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = data[: error.start].count(b"\n") + 1
        raise IrmasError(
            f"{name} is not CSV in UTF-8: line {at} has bytes of another encoding, such as that of "
            "Windows; save it as CSV UTF-8"
        ) from error
    named = NAMED.fullmatch(text.partition("\n")[0].strip("\r"))
    separator = named[1] if named else _separator(text, columns)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
    )
    try:
        lines = [(reader.line_num, [value.strip() for value in line]) for line in reader]
    except csv.Error as error:
        raise IrmasError(f"{name} is not CSV in UTF-8: {error} (line {reader.line_num})") from error
    return separator, [(number, values) for number, values in lines[bool(named) :] if any(values)]


def _separator(text: str, columns: Sequence[str]) -> str:
    """Return what separates the values of the first line that has any."""
    first = next((line for line in text.splitlines() if line.strip(",;\t ")), "")

    def suits(separator: str) -> tuple[int, int]:
        cells = [cell.strip().strip('"') for cell in first.split(separator)]
        return len(set(columns).intersection(cells)), len(cells)

    return max(SEPARATORS, key=suits)

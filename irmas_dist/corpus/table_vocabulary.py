"""The vocabulary of a table of clips: the instruments that it names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irmas_dist.config.corpus import NO_CODE, TABLE_COLUMNS, is_code
from irmas_dist.corpus.csv_tables import CsvRow
from irmas_dist.corpus.label_columns import COLUMN_ADVICE, read_clip_table, read_label, split_codes
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import Vocabulary

MOSTLY = 0.5
"""Share of labels among the values of a column above which the others are mistakes."""


@dataclass(frozen=True)
class TableVocabulary:
    """The instruments of a table, and its columns that are none, each with the reason."""

    vocabulary: Vocabulary
    others: dict[str, str]


def table_vocabulary(
    table: str, columns: Mapping[str, str] | None = None, soft: bool = False
) -> TableVocabulary:
    """Find the instruments that a table of clips names; their codes are their names.

    They are the codes of the column ``instruments``, sorted; or, where there is none, the columns
    that hold nothing but labels, in the order of the table.

    Args:
        table: Path or URL of the table.
        columns: What the table calls some of `config.corpus.TABLE_COLUMNS`, or of the instruments.
        soft: Whether labels may lie between 0 and 1.

    Raises:
        IrmasError: The table cannot be read, names no instrument, has a code that cannot be one,
            or looks like several, or a column of labels with something else in it.
    """
    called = columns or {}
    named = {theirs: ours for ours, theirs in called.items()}
    content = read_clip_table(table, (called.get("path", "path"),), COLUMN_ADVICE)
    found: Sequence[str] = []
    others: dict[str, str] = {}
    if (listed := called.get("instruments", "instruments")) in content.columns:
        lines: dict[str, CsvRow] = {}
        for row in content.rows:
            if row.values[listed].strip() == "?":
                continue
            for code in split_codes(row.values[listed]):
                lines.setdefault(code, row)
        for code, row in lines.items():
            if not is_code(code):
                raise IrmasError(f"{row.where}, column {listed!r}: {code!r} {NO_CODE}")
            if "," in code or ";" in code:
                raise IrmasError(
                    f"{row.where}, column {listed!r}: {code!r} looks like several codes, and these "
                    "are separated by |; if it is one, write a recipe with corpus.instruments"
                )
        found = sorted(lines)
    else:
        for column in content.columns:
            if (name := named.get(column, column)) in TABLE_COLUMNS:
                continue
            if column in called and column not in named:
                others[column] = f"--column {column}={called[column]} takes another for it"
            elif not is_code(name):
                others[column] = NO_CODE
            elif reason := _why_no_instrument(column, content.rows, soft):
                if MOSTLY < _share_of_labels(column, content.rows, soft) < 1:
                    raise IrmasError(
                        f"{reason}, in the column {column!r}, which has labels otherwise: correct "
                        "it, or leave the column out"
                    )
                others[column] = reason
            else:
                found = [*found, name]
    in_any_case: dict[str, str] = {}
    for code in found:
        if (other := in_any_case.setdefault(code.casefold(), code)) != code:
            raise IrmasError(
                f"{table}: the instruments {other!r} and {code!r} differ in case alone: write one "
                "of them, or a recipe with corpus.instruments if they are two"
            )
    if not found:
        why = "".join(f"; {column}: {reason}" for column, reason in others.items())
        raise IrmasError(f"{table} names no instrument{why}")
    return TableVocabulary(Vocabulary(tuple(found), tuple(found)), others)


def _share_of_labels(column: str, rows: Sequence[CsvRow], soft: bool) -> float:
    """Return the share of labels among the values of a column that say something."""
    found = [read_label(text) for row in rows if (text := row.values[column].strip())]
    labels = [one for one in found if one in (None, 0.0, 1.0) or (soft and one == one)]
    return len(labels) / max(len(found), 1)


def _why_no_instrument(column: str, rows: Sequence[CsvRow], soft: bool) -> str | None:
    """Return why a column holds no labels; None if it does."""
    known = 0
    for row in rows:
        text = row.values[column].strip()
        label = read_label(text)
        if label is not None and label != label:
            return f"{row.where}: {text!r} is no label (1, 0 or ?)"
        if not soft and label not in (None, 0.0, 1.0):
            return f"{row.where}: {text!r} is neither 0 nor 1; --soft takes values between these"
        known += label is not None
    return None if known else "nothing is known of any clip"

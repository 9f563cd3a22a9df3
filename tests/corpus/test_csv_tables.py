"""One reader of CSV: separators, what spreadsheets add, and what cannot be read."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.corpus.csv_tables import parse_number, read_csv
from irmas_dist.errors import IrmasError

VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(str.strip)
LINES = st.lists(st.tuples(VALUES.filter(bool), VALUES, VALUES), max_size=5)


@given(
    lines=LINES,
    separator=st.sampled_from(",;\t"),
    line_end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    blank=st.sampled_from(["", "  ", "SS"]),
    announced=st.sampled_from(["", "sep=S", '"sep=S"', "sep=SSS"]),
)
def test_what_was_written_is_read(
    lines: list[tuple[str, ...]],
    separator: str,
    line_end: str,
    mark: str,
    blank: str,
    announced: str,
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=line_end)
    writer.writerows([("path", "a", "b"), *lines])
    padding = blank.replace("S", separator) + line_end
    before = announced.replace("S", separator) + line_end if announced else ""
    written = f"{mark}{before}{text.getvalue()}{padding}"
    table = read_csv(written.encode(), "t.csv", ("b", "path"))
    assert table.columns == ("path", "a", "b")
    assert [tuple(row.values.values()) for row in table.rows] == lines


def test_a_row_knows_its_line() -> None:
    table = read_csv(b'path,a\n\n"x\ny",1\nz,2\n', "t.csv", ("path",))
    assert [row.where for row in table.rows] == ["t.csv, line 4", "t.csv, line 5"]
    assert table.rows[0].values == {"path": "x\ny", "a": "1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "t.csv has no column 'path'; it needs path, a; it is empty"),
        ("path\n", "t.csv has no column 'a'; it needs path, a; separated by commas it has path"),
        ("path;b\nx;1\n", "it needs path, a; separated by semicolons it has path, b"),
        ("path\ta\ta\n", "t.csv has the column 'a' 2 times, separated by tabs"),
        ("path,a,a\nx,1,2\n", "t.csv has the column 'a' 2 times, separated by commas"),
        ("path,a\nx,0,5\n", "line 2: not as many values as columns: 3 for 2, separated by commas"),
        ("path,a\nx\n", "t.csv, line 2: not as many values as columns: 1 for 2"),
        ("path,a,\nx,1,2\n", "t.csv, line 2: '2' is in column 3, which has no name"),
        ('path,a\n"x,1\n', "t.csv is not CSV in UTF-8: unexpected end of data (line 2)"),
        (b"path,a\n\xff,1\n", "t.csv is not CSV in UTF-8: line 2 has bytes of another encoding"),
        ("path,a\n".encode("utf-16"), "t.csv is not CSV in UTF-8: "),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(content: str | bytes, message: str) -> None:
    data = content.encode() if isinstance(content, str) else content
    with pytest.raises(IrmasError, match=re.escape(message)) as refusal:
        read_csv(data, "t.csv", ("path", "a"))
    assert "\n" not in str(refusal.value)


def test_a_last_column_without_name_or_values_does_not_matter() -> None:
    table = read_csv(b"path,a,\nx,1,\n", "t.csv", ("path", "a"))
    assert table.columns == ("path", "a")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_have_a_point_or_a_comma(value: float) -> None:
    assert parse_number(repr(value)) == parse_number(repr(value).replace(".", ",")) == value


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-inf", "1_0", "0.5.5", "1,000.5", "0x1", "\uff11", ".", "1 0"]
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        parse_number(text)

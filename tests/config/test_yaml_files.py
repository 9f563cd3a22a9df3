"""YAML is read by version 1.2: nothing is dropped, retyped or misplaced without an error."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.config.recipe import load_recipe
from irmas_dist.config.yaml_files import dump_yaml, parse_value, read_yaml
from irmas_dist.errors import IrmasError
from irmas_dist.search.space import load_space


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "r.yaml"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("010", 10),
        ("1:30", "1:30"),
        ("2024-05-01", "2024-05-01"),
        ("2024-31-12", "2024-31-12"),
        ("2024-05-01T25:00:00", "2024-05-01T25:00:00"),
        ("0x_", "0x_"),
        ("!!bool x", "!!bool x"),
        ("!!int", "!!int"),
        ('!!int ""', '!!int ""'),
        ("---\n%YAML 9.9", "---\n%YAML 9.9"),
        ("%YAML 9.9\n---\n1", "%YAML 9.9\n---\n1"),
        ("[" * 1_000, "[" * 1_000),
        ("1e-3", 0.001),
        ("0x10", 16),
        (".inf", float("inf")),
        ("~", None),
        ("", None),
        ("[1, [2]]", [1, [2]]),
        ("{a: b", "{a: b"),
        ("run #3", "run #3"),
        ("#3 try", "#3 try"),
        ("3 # c", "3 # c"),
        ("a: b #3", "a: b #3"),
        ("[] # c", "[] # c"),
        ("run#3", "run#3"),
        ("'run #3'", "run #3"),
        ("[a, '#3']", ["a", "#3"]),
        ("e\N{COMBINING ACUTE ACCENT}", "é"),
    ],
)
def test_values_are_those_of_yaml_1_2_without_comments(text: str, value: Any) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", ' is not YAML: line 3, column 1: found duplicate key "a"'),
        ("a:\n  b: 1\n  b: 2", ' is not YAML: line 3, column 3: found duplicate key "b"'),
        ("a: [1\nb: 2", " is not YAML: line 2, column 2: expected ',' or ']', but got ':'"),
        ("a: 1\n1: b", ", line 2: 1 is no name; quote it if it is one"),
        ("true: b", ", line 1: true is no name; quote it if it is one"),
        ("? [a]\n: b", ", line 1: a list or mapping is no name; quote it if it is one"),
        ("a: &x {b: 1}\nc: *x", ", line 1: aliases are not supported: write the value out"),
        ("a: &x [*x]", ", line 1: aliases are not supported: write the value out"),
        ("a: !!python/object:b c", " is not YAML: line 1, column 4: could not determine a con"),
        ("a: 1\n---\nb: 2", " is not YAML: line 2, column 1: but found another document"),
        ("a: 0x_", " is not YAML: line 1, column 4: 0x_ cannot be read as int"),
        ("a: [b, !!bool c]", " is not YAML: line 1, column 8: c cannot be read as bool"),
        ("a: !!int", " is not YAML: line 1, column 4:  cannot be read as int"),
        ("%YAML 9.9\n---\na: 1", " is not YAML: "),
        (f"a: {'9' * 5_000}", f" is not YAML: line 1, column 4: {'9' * 40} cannot be read as int"),
        (f"a: {'[' * 1_000}", ": lists or mappings are nested too deeply"),
        ("- a", " must hold settings by name, not ['a']"),
    ],
)
def test_what_is_no_file_of_settings_is_refused_with_its_place(
    text: str, message: str, file: Path
) -> None:
    file.write_text(text)
    with pytest.raises(IrmasError) as refused:
        read_yaml(file)
    assert str(refused.value).startswith(f"{file}{message}")


def test_a_file_that_is_not_utf_8_is_refused(file: Path) -> None:
    file.write_bytes(b"model: \xff")
    with pytest.raises(IrmasError, match=r"is not UTF-8 \(byte 7\)"):
        read_yaml(file)


def test_an_error_of_a_recipe_names_its_line(file: Path) -> None:
    file.write_text("seed: 1\n\ntraining:\n  lr: 0.1\n  epochs: 0\n")
    with pytest.raises(IrmasError, match=r"r\.yaml, line 5: training\.epochs=0: should be greater"):
        load_recipe(file)


def test_an_error_of_a_space_names_its_line(file: Path) -> None:
    file.write_text("training.lr: {type: float, low: 0.1, high: 1}\nmodel.width: {type: int}\n")
    with pytest.raises(IrmasError, match=r"r\.yaml, line 2: model\.width"):
        load_space(file, load_recipe())


def test_a_date_is_text_as_name_and_as_value(file: Path) -> None:
    file.write_text("2024-05-01: 2024-31-12\n")
    assert read_yaml(file).content == {"2024-05-01": "2024-31-12"}


def test_instruments_with_any_name_keep_it(file: Path) -> None:
    file.write_text(
        'corpus:\n  instruments: {no: nocturne, "1": one, e\N{COMBINING ACUTE ACCENT}: étude}\n'
    )
    instruments = load_recipe(file).corpus.instruments
    assert instruments == {"no": "nocturne", "1": "one", "é": "étude"}


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]))


@given(
    st.dictionaries(
        text, st.recursive(scalars | text, lambda inner: st.lists(inner), max_leaves=8), min_size=1
    )
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    file.write_text(dump_yaml(content))
    first = read_yaml(file).content
    file.write_text(dump_yaml(first))
    assert read_yaml(file).content == first
    assert parse_value(dump_yaml(first, flow=True)) == first

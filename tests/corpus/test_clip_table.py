"""A table of clips says what plays in them, what does not, and what nobody knows."""

import re
import shlex
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irmas_dist import storage
from irmas_dist.cli.main import run
from irmas_dist.config.corpus import CorpusSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import read_audio
from irmas_dist.corpus.clip_table import add_audio, parse_table
from irmas_dist.corpus.groups import find_conflicts, has_source, join_identical, source_of
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import read_manifest, write_manifest
from irmas_dist.corpus.table_vocabulary import table_vocabulary
from irmas_dist.corpus.write_index import ClipTable, with_table, write_index
from irmas_dist.errors import IrmasError
from irmas_dist.features.diff import encode_labels
from irmas_dist.features.logmel import log_mel
from irmas_dist.features.shard_tasks import compute_shard
from irmas_dist.features.store import logmel_array, read_shards, shard_names
from irmas_dist.instruments import Vocabulary

VOCABULARY = Vocabulary.of({"a": "A", "b": "B", "c": "C"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three audio files of half a second."""
    (tmp_path / "audio").mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).normal(0, 0.1, 8_000).astype(np.float32)
        sf.write(tmp_path / "audio" / f"{number}.wav", noise, 16_000)
    return tmp_path


def table(folder: Path, text: str, name: str = "clips.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def index_table(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
    return add_audio(parse_table(*arguments, **options))


def facts(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_a_column_for_each_instrument(folder: Path) -> None:
    rows = index_table(
        table(folder, "path,a,b,c,part,group\naudio/0.wav,1,0,?,training,x\n"
              "audio/1.wav,0,,1.0,validation,\naudio/2.wav,0,0,0,,x\n"),
        VOCABULARY,
    )  # fmt: skip
    assert facts(rows, "clip_id", "instruments", "unknown", "part", "group") == [
        ("audio/0", ["a"], ["c"], "training", "group x"),
        ("audio/1", ["c"], ["b"], "validation", "file audio/1"),
        ("audio/2", [], [], "training", "group x"),
    ]
    assert facts(rows, "duration_s", "sample_rate", "problem") == [(0.5, 16_000, None)] * 3
    assert rows[0]["path"] == str(folder / "audio" / "0.wav")


def test_codes_in_one_column_and_other_names_for_columns(folder: Path) -> None:
    path = table(folder / "audio", "file;plays\n0.wav;a|c\n1.wav;\n", "list.csv")
    rows = index_table(path, VOCABULARY, columns={"path": "file", "instruments": "plays"})
    assert facts(rows, "clip_id", "instruments", "unknown") == [
        ("0", ["a", "c"], []),
        ("1", [], []),
    ]


def test_a_name_may_begin_with_a_tilde_and_a_path_at_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "audio" / "0.wav").rename(folder / "~take.wav")
    (folder / "audio" / "1.wav").rename(folder / "~root")
    path = table(folder, "path,a,b,c\n~take.wav,1,0,0\n~root,1,0,0\n~/audio/2.wav,1,0,0\n")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    names = ["~take.wav", "~root", "audio/2.wav"]
    expected = [(str(folder / name), None) for name in names]
    for root in (None, "."):
        assert facts(index_table(path, VOCABULARY, root), "path", "problem") == expected


def test_paths_are_relative_to_the_root_that_is_given(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = table(tmp_path / "elsewhere", "path\tinstruments\n2.wav\tb\n", "clips.tsv")
    [row] = index_table(path, VOCABULARY, root=str(folder / "audio"))
    assert row["problem"] is None
    [lost] = index_table(path, VOCABULARY)
    assert "no such file" in lost["problem"].lower()


def test_parquet_says_the_same_as_csv(folder: Path) -> None:
    columns = {"path": ["audio/0.wav", "audio/1.wav"], "a": [1, None], "b": [True, False],
               "c": [None, 0.0]}  # fmt: skip
    pq.write_table(pa.table(columns), folder / "clips.parquet")
    rows = index_table(str(folder / "clips.parquet"), VOCABULARY)
    assert facts(rows, "instruments", "unknown") == [(["a", "b"], ["c"]), ([], ["a"])]
    lists = {"path": ["audio/0.wav", "audio/1.wav", "audio/2.wav"],
             "instruments": [["a", "c"], [], None]}  # fmt: skip
    pq.write_table(pa.table(lists), folder / "lists.parquet")
    rows = index_table(str(folder / "lists.parquet"), VOCABULARY)
    known = [(["a", "c"], []), ([], []), ([], ["a", "b", "c"])]
    assert facts(rows, "instruments", "unknown") == known


def test_csv_may_say_true_and_false_and_that_nothing_is_known(folder: Path) -> None:
    text = "path,a,b,c\naudio/0.wav,True,FALSE,?\naudio/1.wav,false,1,\n"
    rows = index_table(table(folder, text), VOCABULARY)
    assert facts(rows, "instruments", "unknown") == [(["a"], ["c"]), (["b"], ["c"])]
    rows = index_table(table(folder, "path,instruments\naudio/0.wav,?\n"), VOCABULARY)
    assert facts(rows, "instruments", "unknown") == [([], ["a", "b", "c"])]


def test_paths_of_a_table_in_a_bucket_are_keys_below_it(folder: Path, bucket: str) -> None:
    for key in ("t/a.wav", "o/b.wav"):
        with storage.write_atomically(f"{bucket}/{key}") as file:
            file.write((folder / "audio" / "0.wav").read_bytes())
    text = "path,a,b,c\n./a.wav,1,0,0\n../o/b.wav,1,0,0\n"
    rows = index_table(put(f"{bucket}/t/clips.csv", text), VOCABULARY)
    assert [row["problem"] for row in rows] == [None, None]
    assert [row["path"] for row in rows] == [f"{bucket}/t/a.wav", f"{bucket}/o/b.wav"]
    absolute = put(f"{bucket}/t/absolute.csv", "path,a,b,c\n/data/a.wav,1,0,0\n")
    with pytest.raises(IrmasError, match=r"line 2, column 'path': '/data/a.wav' is no path below"):
        index_table(absolute, VOCABULARY)


def test_a_name_that_is_too_long_is_a_problem_of_its_clip(folder: Path) -> None:
    text = f"path,a,b,c\n{'x' * 300}.wav,1,0,0\naudio/0.wav,1,0,0\n"
    long, short = index_table(table(folder, text), VOCABULARY)
    assert "too long" in long["problem"]
    assert short["problem"] is None


def put(url: str, text: str) -> str:
    with storage.write_atomically(url) as file:
        file.write(text.encode())
    return url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,a,b,c\n0.wav,1,2,0\n", r"line 2, column 'b': '2' is neither 1, 0, \? nor empty"),
        ("path,a,b,c\n0.wav,1,0.5,0\n", r"line 2, column 'b': '0.5' is neither"),
        ("path,a,b\n0.wav,1,0\n", r"neither a column 'instruments' nor one for c"),
        ("path,instruments\n0.wav,a|x\n", r"line 2, column 'instruments': 'x' is no instrument"),
        ("path\tinstruments\n0.wav\tc, A\n", r"'c, A' is no instrument of a, b, c; write c\|a$"),
        ("path,instruments\n0.wav,B\n", r"'B' is no instrument of a, b, c; write b$"),
        (
            "path,instruments,part\n0.wav,a,dev\n",
            r"column 'part': 'dev' is none of training",
        ),
        ("path,instruments,start\n0.wav,a,-1\n", r"column 'start': '-1' is no time in seconds"),
        ("path,instruments,start\n0.wav,a,1:30\n", r"column 'start': '1:30' is no time"),
        (
            "path,instruments,start,end\n0.wav,a,2,1.5\n",
            r"line 2, column 'end': '1.5' is no time in seconds after 2, where the clip starts",
        ),
        ("path,instruments,start,end\n0.wav,a,1,2\n0.wav,b,1.0,2\n", r"line 3: '0@1-2' is in"),
        ("path,instruments\n,a\n", r"line 2, column 'path': '' is no path of a file"),
        ("path,instruments\n./,a\n", r"line 2, column 'path': './' is no path of a file"),
        (
            "path,instruments\n0.wav,a\nhttp://example.org/b.wav,a\n",
            r"line 3, column 'path': cannot use http://example.org/b.wav for storage",
        ),
        ("path,instruments,b\n0.wav,a,?\n", r"in the column 'instruments' and in 'b'"),
        ("path,instruments\n0.wav,a\n./0.wav,b\n", r"line 3: '0' is in .*line 2 too"),
        ("path,instruments\n", r"lists no clip"),
        ("file,instruments\n0.wav,a\n", r"has no column 'path'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_and_column(
    folder: Path, text: str, message: str
) -> None:
    with pytest.raises(IrmasError, match=message):
        index_table(table(folder, text), VOCABULARY)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"part": "splitt"}, r"--column part=splitt: .* has no column 'splitt'; it has path, a"),
        ({"a": "b"}, r"--column a=b: 'b' would be a and b"),
    ],
)
def test_a_column_that_is_not_there_or_is_another_is_refused(
    folder: Path, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(IrmasError, match=message):
        index_table(table(folder, "path,a,b,c\n0.wav,1,0,0\n"), VOCABULARY, columns=columns)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(["1", "0", "?", ""]), min_size=3, max_size=3), min_size=1,
                max_size=3))  # fmt: skip
def test_every_label_is_present_absent_or_unknown(folder: Path, cells: list[list[str]]) -> None:
    lines = [",".join([f"audio/{n}.wav", *row]) for n, row in enumerate(cells)]
    rows = index_table(table(folder, "\n".join(["path,a,b,c", *lines])), VOCABULARY)
    for row, given_cells in zip(rows, cells, strict=True):
        for code, cell in zip(VOCABULARY.codes, given_cells, strict=True):
            assert (code in row["instruments"]) == (cell == "1")
            assert (code in row["unknown"]) == (cell in ("?", ""))


def test_soft_labels_are_taken_where_they_are_expected(folder: Path) -> None:
    path = table(folder, "path;a;b;c\naudio/0.wav;0,7;.25;?\naudio/1.wav;1;0;0.5\n")
    with pytest.raises(
        IrmasError, match=r"line 2, column 'a': '0,7' is neither .*; --soft takes values between"
    ):
        index_table(path, VOCABULARY)
    rows = index_table(path, VOCABULARY, soft=True)
    assert facts(rows, "instruments", "unknown") == [(["a"], ["c"]), (["a", "c"], [])]
    manifest = write_manifest(folder / "m.parquet", rows)
    labels, problems = encode_labels(manifest, VOCABULARY)
    np.testing.assert_array_equal(labels, np.array([[0.7, 0.25, np.nan], [1, 0, 0.5]], np.float32))
    assert problems.null_count == 2
    with pytest.raises(IrmasError, match=r"column 'b': '1.5' is neither"):
        index_table(table(folder, "path,a,b,c\naudio/0.wav,1,1.5,0\n"), VOCABULARY, soft=True)


def test_a_clip_may_be_a_span_of_a_file(folder: Path) -> None:
    path = table(
        folder,
        "path,instruments,start,end,group\n"
        "audio/0.wav,a,0,0.2,\n"
        "audio/0.wav,b,0.2,,\n"
        "audio/0.wav,c,0.4,0.6,\n"
        "audio/1.wav,a,,0.1,x\n"
        "audio/1.wav,a,0.1,0.2,y\n",
    )
    rows = index_table(path, VOCABULARY)
    join_identical(rows)
    assert facts(rows, "clip_id", "duration_s", "group") == [
        ("audio/0@0-0.2", 0.2, "file audio/0"),
        ("audio/0@0.2-", 0.3, "file audio/0"),
        ("audio/0@0.4-0.6", None, "file audio/0"),
        ("audio/1@0-0.1", 0.1, "group x"),
        ("audio/1@0.1-0.2", 0.1, "group y"),
    ]
    assert [row["problem"] for row in rows if row["problem"]] == [
        "is too short: its span ends at 0.60 s, but the file ends after 0.50 s"
    ]
    assert len({row["md5"] for row in rows}) == 5
    again = index_table(path, VOCABULARY)
    assert facts(again, "md5") == facts(rows, "md5")
    assert find_conflicts(rows) == []


def test_spans_join_the_group_of_a_copy_of_their_file(folder: Path) -> None:
    (folder / "copy.wav").write_bytes((folder / "audio" / "0.wav").read_bytes())
    lines = "path,instruments,start\naudio/0.wav,a,0.1\ncopy.wav,a,\naudio/1.wav,a,\n"
    rows = index_table(table(folder, lines), VOCABULARY)
    join_identical(rows)
    assert rows[0]["group"] == rows[1]["group"] != rows[2]["group"]


def test_groups_of_a_source_are_named_after_it(folder: Path) -> None:
    lines = (
        "path,instruments,source,group\naudio/0.wav,a,lib,\naudio/1.wav,a,lib,x\naudio/2.wav,a,,x\n"
    )
    rows = index_table(table(folder, lines), VOCABULARY)
    assert facts(rows, "group") == [
        ("source lib / file audio/0",), ("source lib / group x",), ("group x",)
    ]  # fmt: skip
    assert [source_of(row["group"]) for row in rows] == ["lib", "lib", "group x"]


def test_a_group_may_look_like_one_of_a_source_and_a_source_may_not(folder: Path) -> None:
    rows = index_table(table(folder, "path,instruments,group\naudio/0.wav,a,x / y\n"), VOCABULARY)
    assert not has_source(rows[0]["group"])
    with pytest.raises(IrmasError, match="line 2, column 'source': 'lib / v2' is no name of a"):
        index_table(table(folder, "path,instruments,source\naudio/0.wav,a,lib / v2\n"), VOCABULARY)


def test_a_file_is_one_however_its_path_is_written(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "audio")
    whole = str(folder / "audio" / "0.wav")
    for other in ("audio/../audio/0.wav", whole, f"file://{whole}", "link/0.wav"):
        lines = f"path,instruments\naudio/0.wav,a\n{other},b\n"
        with pytest.raises(IrmasError, match=r"line 3: .* is in .*line 2 too, as 'audio/0.wav'"):
            index_table(table(folder, lines), VOCABULARY)
    tree = index_table(table(folder, "path,instruments\naudio/0.wav,a\n"), VOCABULARY)
    (row,) = with_table(
        tree, index_table(table(folder, "path,instruments\nlink/0.wav,b\n"), VOCABULARY)
    )
    assert row["instruments"] == ["b"]


def test_files_of_a_tree_and_of_a_table_elsewhere_may_be_named_alike(folder: Path) -> None:
    (folder / "other" / "audio").mkdir(parents=True)
    (folder / "other" / "audio" / "0.wav").write_bytes((folder / "audio" / "1.wav").read_bytes())
    text = "path,instruments\naudio/0.wav,a\n"
    tree = index_table(table(folder, text), VOCABULARY)
    rows = with_table(tree, index_table(table(folder / "other", text), VOCABULARY))
    assert facts(rows, "clip_id", "problem") == [("audio/0", None), ("audio/0 (table)", None)]


def test_names_that_differ_in_their_suffix_alone_are_told_apart(folder: Path) -> None:
    (folder / "audio" / "0.flac").touch()
    with pytest.raises(IrmasError, match=r"'audio/0.flac' has the name of 'audio/0.wav' \(.*line"):
        index_table(table(folder, "path,instruments\naudio/0.wav,a\naudio/0.flac,a\n"), VOCABULARY)
    rows = index_table(
        table(folder, "path,instruments\naudio/0.wav,a\nnone/take.1,a\nnone/take.2,a\n"), VOCABULARY
    )
    assert facts(rows, "clip_id")[1:] == [("none/take.1",), ("none/take.2",)]


def test_names_that_differ_in_their_unicode_form_alone_are_told_apart(folder: Path) -> None:
    lines = "path,instruments\ne\u0301.wav,a\n\u00e9.wav,a\n"
    with pytest.raises(IrmasError, match=r"has the name of .* but for its Unicode form: rename"):
        index_table(table(folder, lines), VOCABULARY)


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("path,x,b,c", {"a": "x", "start": "x"}, "'x' would be start and a"),
        ("path,caf\u00e9,cafe\u0301,a,b,c", {}, "has the column 'caf\u00e9' 2 times"),
    ],
)
def test_a_column_has_one_meaning(
    folder: Path, header: str, columns: dict[str, str], message: str
) -> None:
    values = ",".join(["audio/0.wav", *["1"] * header.count(",")])
    with pytest.raises(IrmasError, match=message):
        index_table(table(folder, f"{header}\n{values}\n"), VOCABULARY, columns=columns)


def test_a_column_that_another_is_taken_for_is_ignored_and_a_line_says_so(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "path,instruments,codes\naudio/0.wav,a guitar,a|b\n"
    (row,) = index_table(table(folder, text), VOCABULARY, columns={"instruments": "codes"})
    assert row["instruments"] == ["a", "b"]
    assert "columns that are ignored: instruments\n" in capfd.readouterr().err
    text = "path,a,b,c\naudio/0.wav,1,0,?\n"
    (row,) = index_table(table(folder, text), VOCABULARY, columns={"a": "b", "b": "a"})
    assert (row["instruments"], row["unknown"]) == (["b"], ["c"])
    assert "ignored" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("column", "name"),
    [
        *(("groups", "group"), ("Part", "part"), ("ends", "end"), ("SOURCE_", "source")),
        *(("start_s", "start"), ("End (s)", "end"), ("start seconds", "start"), ("end_sec", "end")),
    ],
)
def test_a_column_that_may_be_misspelt_is_refused(folder: Path, column: str, name: str) -> None:
    path = table(folder, f"path,instruments,{column}\naudio/0.wav,a,testing\n")
    option = shlex.quote(f"{name}={column}")
    message = f"the column {column!r} and no {name!r}: if they are the same, add --column {option}"
    with pytest.raises(IrmasError, match=re.escape(message)):
        index_table(path, VOCABULARY)


def test_parts_may_have_their_usual_names(folder: Path) -> None:
    parts = {"train": "training", "Valid": "validation", "VAL": "validation", "test": "testing",
             "Testing": "testing", "": "training"}  # fmt: skip
    for name, meant in parts.items():
        path = table(folder, f"path,instruments,split\naudio/0.wav,a,{name}\n")
        (row,) = index_table(path, VOCABULARY, columns={"part": "split"})
        assert row["part"] == meant


def test_an_instrument_that_is_never_known_to_be_absent_is_told_of(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who marks what plays with 1, and leaves the rest empty, states no absence."""
    path = table(folder, "path,a,b,c\naudio/0.wav,1,,1\naudio/1.wav,,1,0\n")
    index_table(path, VOCABULARY)
    assert "never known to be absent: a, b: an empty cell is" in capfd.readouterr().err
    index_table(table(folder, "path,a,b,c\naudio/0.wav,1,0,1\naudio/1.wav,?,1,0\n"), VOCABULARY)
    assert "never known to be absent: a: " in capfd.readouterr().err
    index_table(table(folder, "path,a,b,c\naudio/0.wav,1,1,1\naudio/1.wav,0,?,0\n"), VOCABULARY)
    assert "never known to be absent: b: " in capfd.readouterr().err
    index_table(table(folder, "path,instruments\naudio/0.wav,a\naudio/1.wav,?\n"), VOCABULARY)
    assert "never" not in capfd.readouterr().err


def test_paths_may_be_written_as_on_windows(folder: Path) -> None:
    path = table(folder, "path,instruments\naudio\\0.wav,a\n")
    (row,) = index_table(path, VOCABULARY)
    assert (row["clip_id"], row["problem"]) == ("audio/0", None)
    shutil.copy(folder / "audio/0.wav", folder / "audio\\0.wav")
    (row,) = index_table(path, VOCABULARY)  # a name that has one
    assert row["clip_id"] == "audio\\0"


def test_a_clip_on_several_lines_is_refused_with_what_to_write(folder: Path) -> None:
    path = table(folder, "path,instruments\naudio/0.wav,a\naudio/0.wav,b\n")
    with pytest.raises(IrmasError, match=r"give each clip one line, with the codes .* by \|"):
        index_table(path, VOCABULARY)


def test_without_paths_the_option_that_names_them_is_told(folder: Path) -> None:
    path = table(folder, "Datei,instruments\naudio/0.wav,a\n")
    with pytest.raises(IrmasError, match=r"it has Datei, instruments; .* add --column path=NAME"):
        index_table(path, VOCABULARY)
    with pytest.raises(IrmasError, match=r"it has Datei, instruments$"):
        index_table(path, VOCABULARY, columns={"path": "File"})
    with pytest.raises(IrmasError, match=r"it is empty$"):
        index_table(table(folder, ""), VOCABULARY)


def test_a_duration_beside_a_start_is_not_ignored(folder: Path) -> None:
    path = table(folder, "path,instruments,start,duration_s\naudio/0.wav,a,0.1,0.2\n")
    with pytest.raises(IrmasError, match=r"'start' and 'duration_s', and no 'end'.* give the end"):
        index_table(path, VOCABULARY)
    # Without spans it is that of the file.
    index_table(table(folder, "path,instruments,duration\naudio/0.wav,a,3\n"), VOCABULARY)


def test_the_numbers_of_rows_that_pandas_writes_are_no_column(folder: Path) -> None:
    path = table(folder, ",path,a,b,c\n7,audio/0.wav,1,0,0\n9,audio/1.wav,0,1,0\n")
    assert len(index_table(path, VOCABULARY)) == 2
    numbered = pa.table({"path": ["audio/0.wav"], "a": [1], "b": [0], "c": [0]})
    numbered = numbered.append_column("__index_level_0__", pa.array([1]))
    pq.write_table(numbered, folder / "numbered.parquet")
    assert table_vocabulary(str(folder / "numbered.parquet")).vocabulary.codes == ("a", "b", "c")


def test_other_columns_are_ignored_and_a_line_names_them(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "path,a,b,c,artist,grup,instrument\naudio/0.wav,1,0,0,part,x,a\n"
    index_table(table(folder, text), VOCABULARY)
    said = "columns that are ignored: grup (for group, see --column?), artist, instrument\n"
    assert capfd.readouterr().err.startswith(said)
    many = ",".join(f"x{number}" for number in range(32))
    values = ",".join("7" for _ in range(32))
    path = table(folder, f"path,a,b,c,part,groups,group,{many}\naudio/0.wav,1,0,0,,,,{values}\n")
    index_table(path, VOCABULARY)
    named = ", ".join(f"x{number}" for number in range(29))
    said = f"columns that are ignored: groups, {named} and 3 more\n"
    assert capfd.readouterr().err.startswith(said)


@pytest.mark.parametrize("values", [("train", "test"), ("Training", "valid"), ("dev", "eval")])
def test_a_column_that_tells_training_from_testing_is_not_ignored(
    folder: Path, values: tuple[str, str]
) -> None:
    text = f"path,a,b,c,split\naudio/0.wav,1,0,0,{values[0]}\naudio/1.wav,1,0,0,{values[1]}\n"
    named = ", with the values training, validation, testing" if "dev" in values else ""
    refusal = f"'split' with .* add --column part=split{named}; otherwise"
    with pytest.raises(IrmasError, match=refusal):
        index_table(table(folder, text), VOCABULARY)
    with_part = text.replace("split\n", "split,part\n").replace(".wav,1,0,0", ".wav,1,0,0")
    with_part = with_part.replace(f"{values[0]}\n", f"{values[0]},\n")
    with_part = with_part.replace(f"{values[1]}\n", f"{values[1]},testing\n")
    assert len(index_table(table(folder, with_part), VOCABULARY)) == 2
    alike = text.replace(values[1], values[0])
    assert len(index_table(table(folder, alike), VOCABULARY)) == 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_in_another_form_of_unicode_is_found(folder: Path, form: str) -> None:
    """macOS decomposes names; where tables were made elsewhere, or files moved, forms differ."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    name = unicodedata.normalize(form, "é.wav")
    shutil.copy(folder / "audio" / "0.wav", folder / "audio" / name)
    listed = unicodedata.normalize(other, "é.wav")
    (row,) = index_table(table(folder, f"path,a,b,c\naudio/{listed},1,0,0\n"), VOCABULARY)
    assert row["problem"] is None
    assert Path(row["path"]).exists()


def test_clips_in_which_nothing_plays_are_counted(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = table(
        folder, "path,instruments\naudio/0.wav,a\naudio/1.wav,\naudio/2.wav,|\naudio/3.wav,?\n"
    )
    index_table(path, VOCABULARY)
    said = "clips in which no instrument plays, 'instruments' being empty: 2\n"
    assert capfd.readouterr().err.startswith(said)
    index_table(table(folder, "path,a,b,c\naudio/0.wav,0,0,0\n"), VOCABULARY)
    assert "no instrument plays" not in capfd.readouterr().err


@pytest.mark.parametrize("end", ["1e999", "1e300", "-1", "x"])
def test_a_time_that_is_none_is_refused_by_its_line(folder: Path, end: str) -> None:
    lines = f"path,instruments,end\naudio/0.wav,a,{end}\n"
    with pytest.raises(IrmasError, match=r"line 2, column 'end': '.*' is no time"):
        index_table(table(folder, lines), VOCABULARY)


@pytest.mark.parametrize("start", ["1e300", "1e7", "-1", "x", "nan"])
def test_a_start_that_none_can_be_is_refused_by_its_line(folder: Path, start: str) -> None:
    lines = f"path,instruments,start\naudio/0.wav,a,{start}\n"
    with pytest.raises(IrmasError, match=r"column 'start': '.*' is no time .* 0 to 10,000,000"):
        index_table(table(folder, lines), VOCABULARY)


def test_a_span_is_heard_alone(folder: Path) -> None:
    rows = index_table(
        table(folder, "path,instruments,start,end\naudio/0.wav,a,0.125,0.375\n"), VOCABULARY
    )
    write_manifest(folder / "m.parquet", rows)
    block = read_manifest(folder / "m.parquet")
    settings = LogMelSettings()
    compute_shard(block, str(folder), settings, VOCABULARY)
    [name] = shard_names(str(folder))
    [frames] = read_shards(str(folder), [name])[0].clips.column("frames").to_pylist()
    samples, rate = read_audio(folder / "audio" / "0.wav")
    alone = log_mel(samples[2_000:6_000], settings, rate)
    assert frames == alone.shape[1]
    stored = pq.read_table(folder / name).column("logmel")[0]
    np.testing.assert_array_equal(logmel_array(stored, frames, settings.dtype), alone)


def test_the_table_says_what_plays_in_a_file_of_the_tree(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "audio").rename(folder / "a")
    rows = with_table(
        index_tree(str(folder), VOCABULARY),
        index_table(table(folder, "path,a,b,c\na/0.wav,1,1,0\n"), VOCABULARY),
    )
    assert facts(rows, "clip_id", "instruments", "problem") == [
        ("a/1", ["a"], None), ("a/2", ["a"], None), ("a/0", ["a", "b"], None),
    ]  # fmt: skip
    assert "1 files of the tree are in the table" in capsys.readouterr().err


def test_a_tree_and_a_table_make_one_manifest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = folder / "tree" / "a"
    tree.mkdir(parents=True)
    (tree / "same.wav").write_bytes((folder / "audio" / "0.wav").read_bytes())
    path = table(folder, "path,a,b,c\naudio/0.wav,1,?,0\naudio/1.wav,0,1,0\n")
    config = folder / "abc.yaml"
    config.write_text("corpus:\n  instruments: {a: A, b: B, c: C}\n")
    out = folder / "m.parquet"
    command = [
        "index",
        str(tree.parent),
        "--table",
        path,
        "--config",
        str(config),
        "--out",
        str(out),
    ]
    assert run(command) == 0
    rows = read_manifest(str(out)).to_pylist()
    assert [row["clip_id"] for row in rows] == ["a/same", "audio/0", "audio/1"]
    assert rows[0]["group"] == rows[1]["group"] != rows[2]["group"]  # the same audio
    capsys.readouterr()
    assert run(["index", "--root", "x"]) == 2
    assert run(["index", "--table", path, "--column", "path"]) == 2
    assert run(["index", "--table", path, "--column", "x=y"]) == 1


def test_a_manifest_is_no_table(folder: Path) -> None:
    rows = index_table(table(folder, "path,a,b,c,end\naudio/0.wav,1,0,?,0.3\n"), VOCABULARY)
    join_identical(rows)
    write_manifest(folder / "m.parquet", rows, VOCABULARY)
    with pytest.raises(IrmasError, match="is a manifest, of which a table would lose unknown"):
        index_table(str(folder / "m.parquet"), VOCABULARY)


def test_groups_and_sources_are_the_same_in_every_form_of_unicode(folder: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    rows = index_table(
        table(folder, "path,instruments,group,source\n"
              f"audio/0.wav,a,{composed},{composed}\naudio/1.wav,a,{decomposed},{decomposed}\n"),
        VOCABULARY,
    )  # fmt: skip
    assert len({row["group"] for row in rows}) == 1


def test_a_file_url_is_the_file_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    sf.write(tmp_path / "a" / "my song.wav", np.zeros(8_000, np.float32) + 0.1, 16_000)
    url = (tmp_path / "a" / "my song.wav").as_uri()
    assert "%20" in url
    path = table(tmp_path, f"path,instruments\n{url},a|b\n")
    (row,) = with_table(index_tree(tmp_path, VOCABULARY), index_table(path, VOCABULARY))
    assert (row["path"], row["problem"]) == (str(tmp_path / "a" / "my song.wav"), None)
    assert row["instruments"] == ["a", "b"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"\xff\xfe"], pa.binary()).view(pa.string()),
        pa.array([3 * 10**11], pa.int64()).cast(pa.timestamp("s")),
        pa.array([0], pa.int64()).cast(pa.timestamp("s", "Middle/Earth")),
    ],
    ids=["no UTF-8", "no such year", "no such zone"],
)
def test_a_value_of_parquet_that_cannot_be_read_is_refused_by_its_column(
    folder: Path, column: pa.Array
) -> None:
    content = pa.table({"path": ["audio/0.wav"], "instruments": ["a"], "added": column})
    pq.write_table(content, folder / "t.parquet")
    told = r"t\.parquet, column 'added' has a value that cannot be read: "
    with pytest.raises(IrmasError, match=told):
        index_table(str(folder / "t.parquet"), VOCABULARY)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.string(), 1)], ids=str
)
def test_a_list_of_parquet_that_is_missing_is_unknown(folder: Path, kind: pa.DataType) -> None:
    codes = pa.array([["a"], None], kind)
    content = pa.table({"path": ["audio/0.wav", "audio/1.wav"], "instruments": codes})
    pq.write_table(content, folder / "t.parquet")
    rows = index_table(str(folder / "t.parquet"), VOCABULARY)
    assert facts(rows, "instruments", "unknown") == [(["a"], []), ([], ["a", "b", "c"])]


def test_a_soft_label_is_what_the_manifest_stores(folder: Path) -> None:
    path = table(folder, "path,a,b,c\naudio/0.wav,0.4999999999,0.99999999999,0.25\n")
    rows = index_table(path, VOCABULARY, soft=True)
    join_identical(rows)
    write_manifest(folder / "m.parquet", rows, VOCABULARY)
    (row,) = read_manifest(folder / "m.parquet").to_pylist()
    assert row["instruments"] == ["a", "b"]
    assert row["soft"] == [{"code": "a", "value": 0.5}, {"code": "c", "value": 0.25}]


def test_what_no_clip_of_can_be_used_once_conflicts_are_dropped_is_not_written(
    folder: Path,
) -> None:
    shutil.copy(folder / "audio/0.wav", folder / "audio/copy.wav")
    path = table(folder, "path,a,b,c\naudio/0.wav,1,0,0\naudio/copy.wav,0,1,0\n")
    instruments = {"a": "A", "b": "B", "c": "C"}
    corpus = CorpusSettings.model_validate({"instruments": instruments, "conflicts": "drop"})
    with pytest.raises(IrmasError, match="no file can be used: "):
        write_index(str(folder / "m.parquet"), None, ClipTable(path), corpus)
    assert not (folder / "m.parquet").exists()


def test_a_bad_table_is_refused_before_a_tree_is_read(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = table(folder, "path,a,b,c\naudio/0.wav,1,2,0\n")
    corpus = CorpusSettings.model_validate({"instruments": {"a": "A", "b": "B", "c": "C"}})
    with pytest.raises(IrmasError, match="column 'b'"):
        write_index(str(folder / "m.parquet"), str(folder), ClipTable(path), corpus)
    assert "index:" not in capfd.readouterr().err

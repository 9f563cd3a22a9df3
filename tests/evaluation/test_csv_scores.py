"""Scores from CSV; that unusable files are refused is tested with the command that reads them."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irmas_dist.corpus.audio_files import clip_id_of
from irmas_dist.corpus.catalogue import read_catalogue
from irmas_dist.corpus.manifest import write_manifest
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.csv_scores import open_scores
from irmas_dist.evaluation.scores import write_scores
from irmas_dist.instruments import IRMAS, UNKNOWN, Vocabulary

DUO = Vocabulary.of({"vio": "violin", "cel": "cello"})


def write(tmp_path, scores, labels):
    (tmp_path / "scores.csv").write_text(scores, encoding="utf-8-sig")
    (tmp_path / "labels.csv").write_text(labels)
    return str(tmp_path / "scores.csv"), str(tmp_path / "labels.csv")


def test_columns_may_come_in_any_order_and_paths_in_any_form(tmp_path):
    files = write(
        tmp_path,
        "cel,path,vio\n0.25,./Part1/Nai\u0308ve-1.wav,1\n0.5,Part1/b-2,0\n",
        "path,instruments\nPart1/b-2.wav,\nPart1/Na\u00efve-1,cel | vio\n",
    )
    read = open_scores(*files, DUO)
    assert read.clip_ids == ["Part1/Na\u00efve-1", "Part1/b-2"]
    np.testing.assert_array_equal(read.scores, [[1, 0.25], [0, 0.5]])
    np.testing.assert_array_equal(read.labels, [[1, 1], [0, 0]])
    assert set(read.parts) == {"testing"}
    assert read.vocabulary == DUO


def test_labels_may_have_a_column_each_and_be_unknown(tmp_path):
    scores = "path,vio,cel\na.wav,0.5,1\nb.wav,0,0.25\n"
    read = open_scores(*write(tmp_path, scores, "path,cel,vio,year\na,1,?,1999\nb,0,1,2000\n"), DUO)
    np.testing.assert_array_equal(read.labels, [[UNKNOWN, 1], [1, 0]])
    with pytest.raises(IrmasError, match=r"labels.csv, line 2, column 'vio': '2' is neither 1, 0"):
        open_scores(*write(tmp_path, scores, "path,cel,vio\na,1,2\nb,0,1\n"), DUO)


def test_soft_labels_count_from_a_half_and_spans_are_refused(tmp_path):
    scores = "path,vio,cel\na.wav,0.5,1\nb.wav,0,0.25\n"
    read = open_scores(*write(tmp_path, scores, "path,cel,vio\na,0.5,0.4\nb,0,1\n"), DUO)
    np.testing.assert_array_equal(read.labels, [[0, 1], [1, 0]])
    labels = "path,cel,vio,start,end\na,1,0,0,\nb,0,1,0.0,1\n"
    with pytest.raises(IrmasError, match=r"line 3: scores are of whole files"):
        open_scores(*write(tmp_path, scores, labels), DUO)


def test_the_table_says_what_is_one_song_and_what_is_tested(tmp_path):
    scores = "path,vio,cel\na.wav,0.5,1\nb.wav,0,0.25\nc,0,0\n"
    labels = "path,instruments,part,group,source\na,vio,testing,x,\nb,cel,testing,x,\n"
    labels += "c,cel,Test,,studio\nd,vio,training,x,\n"
    read = open_scores(*write(tmp_path, scores, labels), DUO)
    assert read.groups == ["group x", "group x", "source studio / song c"]
    assert read.clip_ids == ["a", "b", "c"]  # d is of another part, and needs no scores
    with pytest.raises(IrmasError, match=r"line 2, column 'part': 'dev' is none of training, "):
        open_scores(*write(tmp_path, scores, "path,instruments,part\na,vio,dev\n"), DUO)


def test_a_table_may_be_written_on_windows(tmp_path):
    scores = "path,vio,cel\nx/a.wav,0.5,1\n"
    read = open_scores(*write(tmp_path, scores, "path,instruments\nx\\a.wav,vio\n"), DUO)
    assert read.clip_ids == ["x/a"]


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_predictions_of_no_file_are_no_scores(tmp_path, suffix):
    scores = write_predictions(tmp_path, suffix, [])
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS[:1]).slice(0, 0), scores)
    with pytest.raises(IrmasError, match=r"contains no scores$"):
        open_scores(scores, None, DUO)


def test_only_irmas_has_labels_that_need_not_be_given(tmp_path):
    scores, labels = write(tmp_path, "path,vio,cel\na,1,0\n", "path,instruments\na,vio\n")
    with pytest.raises(IrmasError, match="give the clips' labels with --labels"):
        open_scores(scores, None, DUO)
    table = str(tmp_path / "scores.parquet")
    write_scores(table, open_scores(scores, labels, DUO))
    with pytest.raises(IrmasError, match=r"has labels of its own; leave out --labels$"):
        open_scores(table, labels, DUO)


def test_what_a_spreadsheet_saves_is_read(tmp_path):
    files = write(
        tmp_path,
        'path;vio;cel\r\na-1.wav;0,25;1\r\n;;\r\n"b; two.wav";,5;1,0e-1\r\n',
        "path\tinstruments\na-1\tvio\nb; two\tcel\n\n",
    )
    read = open_scores(*files, DUO)
    assert read.clip_ids == ["a-1", "b; two"]
    np.testing.assert_allclose(read.scores, [[0.25, 1], [0.5, 0.1]])


@pytest.mark.parametrize("above", ["", "my tree/", "/data/a/"])
def test_paths_may_begin_above_the_tree(tmp_path, above):
    files = write(
        tmp_path,
        f"path,vio,cel\n{above}x/a.wav,1,0\n{above}y/a.wav,0,1\n",
        "path,instruments\ny/a,cel\nx/a,vio\n",
    )
    assert open_scores(*files, DUO).clip_ids == ["x/a", "y/a"]


def test_scores_of_irmas_may_be_of_both_parts(tmp_path):
    entries = {entry.part: clip_id_of(entry.path) for entry in read_catalogue()}
    zeros = ",0.5" * len(IRMAS)
    rows = [f"{clip_id}{zeros}" for clip_id in entries.values()]
    scores, _ = write(tmp_path, "\n".join([f"path,{','.join(IRMAS.codes)}", *rows]), "")
    with pytest.raises(IrmasError, match="has no scores for 9,577 of the 9,579 clips of IRMAS"):
        open_scores(scores)


def test_paths_in_different_places_are_not_taken_for_one_tree(tmp_path):
    scores = "path,vio,cel\nhere/x/a.wav,1,0\nthere/y/a.wav,0,1\n"
    files = write(tmp_path, scores, "path,instruments\nx/a,vio\ny/a,cel\n")
    with pytest.raises(IrmasError, match=r"'here/x/a' is not in \S+, which has paths such as"):
        open_scores(*files, DUO)


ROWS = [
    {"path": "m/a.wav", "instruments": ["vio"], "error": None, "vio": 0.75, "cel": 1e-9},
    {"path": "m/b.wav", "instruments": [], "error": "cannot be decoded", "vio": None, "cel": None},
]


def write_predictions(tmp_path, suffix, rows):
    path = tmp_path / f"p{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        keys = ("path", "error", "instruments")
        found = [
            {key: row[key] for key in keys} | {"scores": {code: row[code] for code in DUO.codes}}
            for row in rows
        ]
        path.write_text(json.dumps({"predictions": found}))
    return str(path)


@pytest.mark.parametrize(
    "wrong", [{"path": "a", "scores": [0.5]}, {"scores": {}}, {"error": "gone"}]
)
def test_a_prediction_of_another_form_is_refused(tmp_path, wrong):
    path = tmp_path / "p.json"
    right = {"path": "m/a.wav", "error": None, "scores": {"vio": 0.5, "cel": 0.5}}
    path.write_text(json.dumps({"predictions": [right, wrong]}))
    with pytest.raises(IrmasError, match="prediction 2: needs a path, and scores by instrument"):
        open_scores(str(path), "labels.csv", DUO)


def test_a_missing_instrument_is_named_also_where_a_file_has_no_scores(tmp_path):
    path, rows = tmp_path / "p.json", [{"path": "m/a.wav", "scores": {"vio": 0.5}}]
    rows += [{"path": "m/b.wav", "error": "cannot be decoded"}]
    path.write_text(json.dumps({"predictions": rows}))
    with pytest.raises(IrmasError, match="has no column 'cel'; it needs path, vio, cel"):
        open_scores(str(path), "labels.csv", DUO)


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_predictions_are_scores(tmp_path, suffix):
    _, labels = write(tmp_path, "", "path,instruments\na,cel\n")
    read = open_scores(write_predictions(tmp_path, suffix, ROWS[:1]), labels, DUO)
    np.testing.assert_allclose(read.scores, [[0.75, 1e-9]])
    with pytest.raises(IrmasError, match="column 'cel' is no instrument; these are vio"):
        open_scores(str(tmp_path / f"p{suffix}"), labels, Vocabulary.of({"vio": "violin"}))
    with pytest.raises(IrmasError, match="has no column 'pia'; it needs path, pia"):
        open_scores(str(tmp_path / f"p{suffix}"), labels, Vocabulary.of({"pia": "piano"}))
    for rows in (ROWS, ROWS[1:]):
        failed = write_predictions(tmp_path, suffix, rows)
        with pytest.raises(
            IrmasError,
            match=f"prediction {len(rows)}: 'm/b.wav' has no scores: cannot be decoded",
        ):
            open_scores(failed, labels, DUO)


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".csv"])
def test_a_file_with_another_suffix_is_known_by_its_content(tmp_path, suffix):
    scores, labels = write(tmp_path, "path,cel,vio\na,0.75,0.5\n", "path,instruments\na,cel\n")
    if suffix != ".csv":
        scores = write_predictions(tmp_path, suffix, ROWS[:1])
    renamed = shutil.copy(scores, f"{scores}.txt")
    known, other = (open_scores(one, labels, DUO) for one in (scores, renamed))
    np.testing.assert_array_equal(known.scores, other.scores)
    with pytest.raises(IrmasError, match=r"no\.mirex: no such file"):
        open_scores(str(tmp_path / "no.mirex"), labels, DUO)


@pytest.mark.parametrize("content", ["[]", "{}", '{"predictions": [1]}', '{"predictions": 1}'])
def test_json_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(IrmasError, match="has no predictions; write them with 'irmas predict'"):
        open_scores(str(tmp_path / "p.json"), None, IRMAS)


def test_a_manifest_says_what_is_unknown_and_which_clips_are_grouped(tmp_path):
    rows = [
        {"clip_id": "t/a", "instruments": ["vio"], "unknown": ["cel"], "group": "x"},
        {"clip_id": "t/b", "instruments": [], "unknown": [], "group": "x"},
        {"clip_id": "t/c", "instruments": [], "unknown": [], "group": "y", "problem": "empty file"},
        {"clip_id": "t/d", "instruments": [], "unknown": [], "group": "y", "part": "training"},
    ]
    facts = {"path": "/far/away.wav", "part": "testing"}
    manifest = str(tmp_path / "m.parquet")
    write_manifest(manifest, [facts | row for row in rows], DUO)
    scores = "path,vio,cel\n/data/t/a.wav,0.5,1\n/data/t/b.wav,0,0.25\n"
    read = open_scores(write(tmp_path, scores, "")[0], manifest, DUO)
    np.testing.assert_array_equal(read.labels, [[1, UNKNOWN], [0, 0]])
    assert (read.groups, read.parts) == (["x", "x"], ["testing"] * 2)
    span = facts | rows[0] | {"start_s": 1.0, "end_s": 2.0}
    write_manifest(manifest, [span], DUO)
    with pytest.raises(IrmasError, match=r"m.parquet, 't/a': scores are of whole files"):
        open_scores(str(tmp_path / "scores.csv"), manifest, DUO)
    write_manifest(manifest, [facts | rows[0]], Vocabulary.of({"vio": "violin"}))
    with pytest.raises(IrmasError, match="was indexed without cel"):
        open_scores(str(tmp_path / "scores.csv"), manifest, DUO)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("Group", "has the column 'Group' and no 'group': if they are the same, call it group"),
        ("groups", "has the column 'groups' and no 'group'"),
        ("split", "has the column 'split' with testing and training, and no 'part'"),
    ],
)
def test_a_column_of_labels_that_may_be_misspelt_is_refused(tmp_path, column, told):
    scores = "path,vio,cel\na.wav,0.5,1\nb.wav,0,0.25\n"
    labels = f"path,instruments,{column}\na,vio,training\nb,cel,testing\n"
    with pytest.raises(IrmasError, match=re.escape(told)) as refused:
        open_scores(*write(tmp_path, scores, labels), DUO)
    assert "--column" not in str(refused.value)

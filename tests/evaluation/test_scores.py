import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import SCHEMA, Scores, read_scores, write_scores
from irmas_dist.instruments import IRMAS, Vocabulary


def some_scores(clips=3, vocabulary=IRMAS):
    rng = np.random.default_rng(0)
    shape = (clips, len(vocabulary))
    return Scores(
        clip_ids=[f"part 1/Naïve “song” #{i}-1" for i in range(clips)],
        parts=["testing"] * clips,
        groups=[f"song {i // 2}" for i in range(clips)],
        labels=rng.integers(0, 2, shape).astype(np.uint8),
        scores=rng.random(shape, dtype=np.float32),
        vocabulary=vocabulary,
    )


@pytest.mark.parametrize("clips", [0, 1, 5])
def test_what_was_written_is_read(tmp_path, clips):
    written = some_scores(clips)
    write_scores(tmp_path / "scores.parquet", written)
    read = read_scores(tmp_path / "scores.parquet")
    assert read.clip_ids == written.clip_ids
    assert read.parts == written.parts
    assert read.groups == written.groups
    assert read.vocabulary == written.vocabulary
    assert read.labels.dtype == np.int8
    assert read.scores.dtype == np.float32
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_array_equal(read.scores, written.scores)


def test_the_vocabulary_travels_with_the_scores_whatever_its_size(tmp_path):
    strings = Vocabulary.of({"vio": "violin", "cel": "cello", "dou": "double bass"})
    write_scores(tmp_path / "scores.parquet", some_scores(vocabulary=strings))
    assert read_scores(tmp_path / "scores.parquet").vocabulary == strings


def test_others_can_read_the_file_with_pyarrow_alone(tmp_path):
    scores = some_scores()
    write_scores(tmp_path / "scores.parquet", scores)
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.schema.equals(SCHEMA)
    assert list(json.loads(table.schema.metadata[b"instruments"])) == list(IRMAS.codes)
    assert table.column("labels")[1].as_py() == scores.labels[1].tolist()


def test_a_file_in_several_row_groups_is_read_whole(tmp_path):
    scores = some_scores(clips=7)
    write_scores(tmp_path / "scores.parquet", scores)
    pq.write_table(
        pq.read_table(tmp_path / "scores.parquet"), tmp_path / "again.parquet", row_group_size=2
    )
    np.testing.assert_array_equal(read_scores(tmp_path / "again.parquet").scores, scores.scores)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(IrmasError, match=r"nowhere\.parquet: no such scores file"):
        read_scores(tmp_path / "nowhere.parquet")


def changed(tmp_path, change):
    """Write good scores, put the table through ``change``, and return the path."""
    path = tmp_path / "scores.parquet"
    write_scores(path, some_scores())
    pq.write_table(change(pq.read_table(path)), path)
    return path


def test_a_missing_column_is_named(tmp_path):
    path = changed(tmp_path, lambda table: table.drop_columns("group"))
    with pytest.raises(IrmasError, match="no column 'group'") as raised:
        read_scores(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_does_not_name_its_instruments_is_refused(tmp_path):
    path = changed(tmp_path, lambda table: table.replace_schema_metadata(None))
    with pytest.raises(IrmasError, match="which instruments"):
        read_scores(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.5])
def test_a_score_that_is_not_a_number_from_0_to_1_is_refused(tmp_path, value):
    scores = some_scores()
    scores.scores[1, 4] = value
    write_scores(tmp_path / "scores.parquet", scores)
    with pytest.raises(IrmasError, match=r"#1-1.* has a score that is not a number from 0 to 1"):
        read_scores(tmp_path / "scores.parquet")


def test_lists_of_the_wrong_length_are_refused(tmp_path):
    def shorten(table):
        short = pa.array([[0.5]] * len(table), pa.list_(pa.float32()))
        return table.set_column(table.column_names.index("scores"), "scores", short)

    with pytest.raises(IrmasError, match="scores must hold 11 values per clip"):
        read_scores(changed(tmp_path, shorten))


def test_columns_of_another_type_are_refused(tmp_path):
    def spell_out(table):
        words = pa.array([["loud"] * len(IRMAS)] * len(table))
        return table.set_column(table.column_names.index("scores"), "scores", words)

    with pytest.raises(IrmasError, match="not a scores table"):
        read_scores(changed(tmp_path, spell_out))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"clip_id": "part 1/Naïve “song” #1-1"}, "'part 1/Naïve “song” #1-1' is listed twice"),
        ({"group": None}, "group is missing in some rows"),
        ({"labels": None}, "labels is missing in some rows"),
        ({"labels": [2] * 11}, "labels are 1, 0, or null where unknown"),
        ({"labels": [255] * 11}, "labels are 1, 0, or null where unknown"),
        ({"scores": None}, "scores is missing in some rows"),
    ],
)
def test_a_row_that_is_none_is_refused(tmp_path, change, refusal):
    write_scores(tmp_path / "scores.parquet", some_scores())
    table = pq.read_table(tmp_path / "scores.parquet")
    rows = table.to_pylist()
    schema = pa.schema([field.with_nullable(True) for field in SCHEMA], table.schema.metadata)
    changed = pa.Table.from_pylist([rows[0] | change, *rows[1:]], schema=schema)
    pq.write_table(changed, tmp_path / "scores.parquet")
    with pytest.raises(IrmasError) as caught:
        read_scores(tmp_path / "scores.parquet")
    assert str(caught.value) == f"{tmp_path / 'scores.parquet'}: {refusal}"


@pytest.mark.parametrize("instruments", ['["low"]', "{low", "7"])
def test_damaged_metadata_are_refused(tmp_path, instruments):
    metadata = {"instruments": instruments}
    path = changed(tmp_path, lambda table: table.replace_schema_metadata(metadata))
    with pytest.raises(IrmasError, match="its metadata are damaged; write it again"):
        read_scores(path)

"""Manifests: read back as written, refused when a clip is in them twice."""

from pathlib import Path

import pyarrow as pa
import pytest

from irmas_dist import storage
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import (
    manifest_fingerprint,
    read_manifest,
    require_indexed,
    write_manifest,
)
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import Vocabulary


def test_a_manifest_with_a_clip_twice_is_refused_by_its_name(tree: Path, tmp_path: Path) -> None:
    rows = index_tree(tree)
    write_manifest(tmp_path / "m.parquet", [*rows, rows[-1]])
    with pytest.raises(IrmasError, match="more than once") as refused:
        read_manifest(tmp_path / "m.parquet")
    assert repr(rows[-1]["clip_id"]) in str(refused.value)
    write_manifest(tmp_path / "m.parquet", [])
    assert read_manifest(tmp_path / "m.parquet").num_rows == 0


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    storage.write_table(tmp_path / "m.parquet", pa.table({"clip_id": ["a"]}))
    with pytest.raises(IrmasError, match="is not a manifest: it has no column 'path'; make one"):
        read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize("part", ["train", 1])
def test_a_manifest_with_a_part_that_no_stage_knows_is_refused(
    tree: Path, tmp_path: Path, part: object
) -> None:
    rows = index_tree(tree)
    table = write_manifest(tmp_path / "m.parquet", rows)
    parts = pa.array([part] * len(rows))
    edited = table.drop_columns("part").append_column("part", parts)
    storage.write_table(tmp_path / "m.parquet", edited)
    expected = rf"m\.parquet: the part of .* is '{part}', none of training, validation, testing"
    with pytest.raises(IrmasError, match=expected):
        read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("column", "value"),
    [("clip_id", None), ("group", None), ("instruments", None), ("instruments", "pia"),
     ("bytes", "many")],
)  # fmt: skip
def test_a_manifest_with_another_type_in_a_column_is_refused(
    tree: Path, tmp_path: Path, column: str, value: object
) -> None:
    table = write_manifest(tmp_path / "m.parquet", index_tree(tree))
    edited = table.drop_columns(column).append_column(column, pa.array([value] * len(table)))
    storage.write_table(tmp_path / "m.parquet", edited)
    with pytest.raises(
        IrmasError, match=r"m\.parquet is not a manifest: .*; make one with 'irmas in"
    ):
        read_manifest(tmp_path / "m.parquet")


def test_the_fingerprint_is_of_the_content_whatever_the_order_and_location(
    tree: Path, tmp_path: Path
) -> None:
    rows = index_tree(tree)
    table = write_manifest(tmp_path / "m.parquet", rows)
    moved = [row | {"path": f"elsewhere/{row['clip_id']}"} for row in reversed(rows)]
    assert manifest_fingerprint(pa.Table.from_pylist(moved, table.schema)) == (
        manifest_fingerprint(table)
    )
    changed = [row | {"instruments": ["pia"]} for row in rows]
    assert manifest_fingerprint(pa.Table.from_pylist(changed, table.schema)) != (
        manifest_fingerprint(table)
    )


def test_instruments_that_a_manifest_was_not_indexed_for_are_not_taken_for_absent(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(path, [], Vocabulary(("kick", "snare"), ("kick", "snare")))
    manifest = read_manifest(path)
    for codes in (("kick", "snare"), ("snare", "kick"), ("snare",)):
        require_indexed(manifest, Vocabulary(codes, codes), path)
    more = ("kick", "hat", "snare", "tom")
    with pytest.raises(
        IrmasError, match=r"m\.parquet was indexed without hat, tom: index it again"
    ):
        require_indexed(manifest, Vocabulary(more, more), path)


def test_a_manifest_that_does_not_say_its_instruments_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    edited = write_manifest(path, []).replace_schema_metadata(None)
    storage.write_table(path, edited)
    require_indexed(read_manifest(path), Vocabulary(("kick",), ("kick",)), path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"duration_s": float("nan")}, "a duration_s is no number of seconds"),
        ({"duration_s": float("inf")}, "a duration_s is no number of seconds"),
        ({"soft": [{"code": "pia", "value": None}]}, "a soft label lacks its code or its value"),
        ({"soft": [{"code": None, "value": 0.5}]}, "a soft label lacks its code or its value"),
    ],
)
def test_a_manifest_with_values_that_are_none_is_refused(
    tree: Path, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    first, *rows = index_tree(tree)
    write_manifest(tmp_path / "m.parquet", [first | change, *rows])
    with pytest.raises(IrmasError, match=told):
        read_manifest(tmp_path / "m.parquet")


def test_a_manifest_whose_instruments_are_damaged_is_refused(tree: Path, tmp_path: Path) -> None:
    table = write_manifest(tmp_path / "m.parquet", index_tree(tree))
    damaged = table.replace_schema_metadata({"instruments": "[pia"})
    with pytest.raises(IrmasError, match=r"m\.parquet is damaged .*; index again"):
        require_indexed(damaged, Vocabulary.of({"pia": "piano"}), tmp_path / "m.parquet")

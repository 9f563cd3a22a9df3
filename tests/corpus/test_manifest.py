"""Manifests: read back as written, refused when a clip is in them twice."""

from pathlib import Path

import pyarrow as pa
import pytest

from irmas_dist import storage
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import manifest_fingerprint, read_manifest, write_manifest
from irmas_dist.errors import IrmasError


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

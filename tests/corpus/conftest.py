"""Fixtures of the corpus tests."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from irmas_dist.corpus.catalogue import read_catalogue
from irmas_dist.corpus.groups import join_identical
from irmas_dist.corpus.index import parse_clip
from irmas_dist.instruments import IRMAS
from tests.small_disks import mounted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "1m") as path:
        yield path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty tree."""
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.fixture(scope="session")
def unjoined_rows() -> list[dict[str, Any]]:
    """Rows of all of IRMAS, from its catalogue, before groups are joined."""
    rows = []
    for entry in read_catalogue():
        path = PurePosixPath(unicodedata.normalize("NFC", entry.path))
        labels = "\t\n".join(entry.instruments) if entry.part == "testing" else None
        row = parse_clip(path.with_suffix("").as_posix(), path.parent.name, labels, IRMAS)
        assert row["part"] == entry.part
        assert row["instruments"] == list(entry.instruments)
        rows.append({**row, "md5": entry.md5, "duration_s": 3.0})
    return rows


@pytest.fixture
def irmas_rows(unjoined_rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of all of IRMAS, from its catalogue."""
    rows = [dict(row) for row in unjoined_rows]
    join_identical(rows)
    return rows

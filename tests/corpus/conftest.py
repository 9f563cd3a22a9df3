"""Fixtures of the corpus tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus.archives import mounted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "1m") as path:
        yield path

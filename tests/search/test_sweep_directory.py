"""The sweep directory, and the lock of its driver."""

from pathlib import Path

import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.search import sweep_directory


def test_a_directory_has_one_driver_at_a_time(tmp_path: Path) -> None:
    assert not sweep_directory.is_driven(tmp_path)
    with sweep_directory.only_driver(tmp_path):
        assert sweep_directory.is_driven(tmp_path)
        with (
            pytest.raises(IrmasError, match="another process runs the sweep"),
            sweep_directory.only_driver(tmp_path),
        ):
            pass
    assert not sweep_directory.is_driven(tmp_path)

"""The demo overwrites the results of a demo, and nothing else."""

from pathlib import Path

import pytest

from irmas_dist.demo.demo import MARKER, _clear, demo
from irmas_dist.errors import IrmasError


def test_results_of_anything_else_are_refused(tmp_path: Path) -> None:
    precious = tmp_path / "features" / "mine.parquet"
    precious.parent.mkdir()
    precious.touch()
    with pytest.raises(IrmasError, match=r"features is not a demo's"):
        _clear(tmp_path)
    assert precious.exists()


def test_results_of_an_earlier_demo_are_deleted(tmp_path: Path) -> None:
    _clear(tmp_path / "demo")
    assert (tmp_path / "demo" / MARKER).exists()
    (tmp_path / "demo" / "model").mkdir()
    (tmp_path / "demo" / "notes.txt").touch()
    _clear(tmp_path / "demo")
    assert not (tmp_path / "demo" / "model").exists()
    assert (tmp_path / "demo" / "notes.txt").exists()


def test_a_directory_may_be_called_like_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(*_: object) -> None:
        raise InterruptedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("irmas_dist.demo.demo.render", render)
    with pytest.raises(InterruptedError):
        demo(Path("1"), trials=1)

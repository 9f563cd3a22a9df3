"""MPS runs for the time of a sweep. Its control program is a script here that keeps a diary."""

import os
from pathlib import Path

import pytest

from irmas_dist.cluster.mps import PIPES, PROGRAM, multi_process_service


@pytest.fixture
def diary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the control program writes its options, pipe directory and commands."""
    program = tmp_path / PROGRAM
    program.write_text(
        f'#!/bin/sh\necho "$*|${PIPES}|$(cat)" >> {tmp_path}/diary\n'
        f"[ ! -e {tmp_path}/broken ] || {{ echo no GPU with MPS; exit 1; }}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv(PIPES, str(tmp_path / "pipes"))
    monkeypatch.delenv(PIPES)
    monkeypatch.setattr("irmas_dist.cluster.mps.DEFAULT_PIPES", str(tmp_path / "pipes"))
    return tmp_path / "diary"


def test_it_starts_before_the_block_and_ends_after_it_even_if_that_fails(diary: Path) -> None:
    def work() -> None:
        with multi_process_service():
            pipes.append(os.environ[PIPES])
            assert diary.read_text() == f"-d|{pipes[0]}|\n"
            assert Path(pipes[0]).is_dir()
            raise ZeroDivisionError

    pipes: list[str] = []
    with pytest.raises(ZeroDivisionError):
        work()
    assert diary.read_text().splitlines() == [f"-d|{pipes[0]}|", f"|{pipes[0]}|quit"]
    assert PIPES not in os.environ
    assert not Path(pipes[0]).exists()


def test_one_that_runs_is_used_and_left_running(diary: Path) -> None:
    (diary.parent / "pipes").mkdir()
    (diary.parent / "pipes" / "control").touch()
    with multi_process_service():
        assert PIPES not in os.environ
    assert not diary.exists()


def test_one_that_does_not_start_costs_a_line(
    diary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (diary.parent / "broken").touch()
    with multi_process_service():
        assert PIPES not in os.environ
    assert "take turns on a GPU, as MPS did not start (no GPU with MPS)" in capsys.readouterr().err
    assert len(diary.read_text().splitlines()) == 1


def test_a_machine_without_it_does_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with multi_process_service():
        assert PIPES not in os.environ
    assert capsys.readouterr().err == ""

"""Progress without a terminal, and the log file for the output of others."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from irmas_dist import terminal
from irmas_dist.terminal import chatter_to, escape, progress, say, show


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time in seconds, which stands still unless it is set; every line is due at once."""
    now = [0.0]
    with monkeypatch.context() as patch:
        patch.setattr(terminal, "LINE_EVERY_S", 0.0)
        patch.setattr("time.monotonic", lambda: now[0])
        yield now


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with progress("extract", 1_003, "clips") as advance:
        clock[0] = 9
        advance(1, "[a]")
        clock[0] = 11
        advance(2, "[a]")
        advance(1_000)
    assert capsys.readouterr().err.splitlines() == [
        "extract: 1 of 1,003 clips, [a]",  # Most of its time was taken by the start.
        "extract: 3 of 1,003 clips, 1.0 clips/s, 1,000 s left, [a]",
        "extract: 1,003 of 1,003 clips in 11.0 s",
    ]


def test_what_an_earlier_run_did_is_progress_but_says_nothing_of_the_speed(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with progress("train", 100, "epochs") as advance:
        advance(70, earlier=True)
        advance(1)
        clock[0] = 10
        advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "train: 71 of 100 epochs",
        "train: 72 of 100 epochs, 10.0 s/epoch, 280 s left",
    ]


def test_what_is_done_again_is_not_progress(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with progress("train", 10, "epochs") as advance:
        for steps in (8, -3, 5):
            advance(steps)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" of")[0] for line in lines] == [
        "train: 8", "train: 5", "train: 10"
    ]  # fmt: skip


def test_a_terminal_shows_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(stderr=True, force_terminal=True, width=100)
    monkeypatch.setattr(terminal, "_err", console)
    with progress("train", 100, "epochs") as advance:
        advance(70, earlier=True)
        for _ in range(2):
            time.sleep(0.01)
            advance(1, "macro F1 .5")
    bar = capsys.readouterr().err
    for shown in ("train", "72/100", "epochs/s", "macro F1 .5"):
        assert shown in bar


@pytest.mark.parametrize(("rate", "text"), [(1234.5, "1,234.5 clips/s"), (0.25, "4.0 s/clip")])
def test_a_rate_below_one_is_given_as_seconds(rate: float, text: str) -> None:
    assert terminal._rate(rate, "clips") == text


def test_only_our_own_output_reaches_the_terminal(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "logs" / "irmas.log"
    with chatter_to(log) as chosen:
        assert chosen == log
        print("from Python")
        subprocess.run([sys.executable, "-c", "print('from a child process')"], check=True)
        say("a message")
        show("a result")
    print("afterwards")
    assert capfd.readouterr() == ("a result\nafterwards\n", "a message\n")
    assert set(log.read_text().splitlines()) == {"from Python", "from a child process"}


def test_an_empty_log_is_deleted_with_the_folders_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for log in (tmp_path / "new" / "logs" / "a.log", tmp_path / "old" / "a.log"):
        with chatter_to(log):
            assert log.exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    with pytest.raises(KeyError), chatter_to(tmp_path / "new" / "a.log"):
        raise KeyError
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]


def test_a_log_is_where_it_can_be_and_else_nowhere(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    nowhere = [tmp_path / "file" / "a.log", Path("/proc/a.log")]
    with chatter_to(*nowhere, tmp_path / "a.log") as log:
        print("chatter")
    assert log == tmp_path / "a.log"
    assert log.read_text() == "chatter\n"
    with chatter_to(*nowhere) as log:
        print("chatter")
        say("a message")
    assert not log.is_file()
    assert capfd.readouterr() == ("", "a message\n")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[2Jb.wav", r"a\x1b[2Jb.wav"),
        ("a\nb\r\x9b1m.wav", r"a\nb\r\x9b1m.wav"),
        ("[bold]é 音.wav", "[bold]é 音.wav"),
    ],
)
def test_a_name_cannot_command_the_terminal(
    capsys: pytest.CaptureFixture[str], name: str, shown: str
) -> None:
    say(name)
    show(name)
    assert capsys.readouterr() == (f"{shown}\n", f"{shown}\n")
    grid = Table.grid()
    grid.add_row(escape(name))
    show(grid)
    assert capsys.readouterr().out.strip() == shown

"""Progress without a terminal, and the log file for the output of others."""

import subprocess
import sys
from pathlib import Path

import pytest

from irmas_dist import terminal
from irmas_dist.terminal import chatter_to, progress, say, show


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "LINE_EVERY_S", 0.0)
    with progress("extract", 3, "clips") as advance:
        advance(1, "[a]")
        advance(2)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("extract: 1 of 3 clips, ")
    assert first.endswith(" s left, [a]")
    assert last.startswith("extract: 3 of 3 clips in ")


@pytest.mark.parametrize(("rate", "text"), [(1234.5, "1,234.5 clips/s"), (0.25, "4.0 s/clip")])
def test_a_rate_below_one_is_given_as_seconds(rate: float, text: str) -> None:
    assert terminal._rate(rate, "clips") == text


def test_only_our_own_output_reaches_the_terminal(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "logs" / "irmas.log"
    with chatter_to(log):
        print("from Python")
        subprocess.run([sys.executable, "-c", "print('from a child process')"], check=True)
        say("a message")
        show("a result")
    print("afterwards")
    assert capfd.readouterr() == ("a result\nafterwards\n", "a message\n")
    assert set(log.read_text().splitlines()) == {"from Python", "from a child process"}

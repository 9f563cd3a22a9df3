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


def test_what_an_earlier_run_did_is_progress_but_says_nothing_of_the_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "LINE_EVERY_S", 0.0)
    now = iter([0.0, 10.0, 10.0])  # Started; after one more; the end.
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with progress("train", 100, "epochs") as advance:
        advance(70, earlier=True)
        advance(1)
    first, _ = capsys.readouterr().err.splitlines()
    assert first == "train: 71 of 100 epochs, 10.0 s/epoch, 290 s left"


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

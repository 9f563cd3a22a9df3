"""The terminal shows where runs are, and which were not uploaded, why, and what to do."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.tracking import outcome
from irmas_dist.tracking.outcome import (
    addresses,
    afterwards,
    awaiting_uploads,
    not_sent,
    show_address,
)
from irmas_dist.tracking.uploads import Upload, uploads
from tests.wandb_server import Fault, WandbServer


def upload(name: str, problem: str | None = None, *, sent: bool = False) -> Upload:
    made = Upload(Path(f"runs/wandb/offline-run-1/run-{name}.wandb"), name, problem, sent=sent)
    made.ended.set()
    return made


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Upload]]:
    """Uploads that the next wait finds."""
    found: list[Upload] = []
    monkeypatch.setattr(uploads, "_begun", found)
    yield found
    addresses.clear()
    afterwards.clear()


def test_runs_that_are_left_are_named_with_the_reason_and_the_remedy() -> None:
    left = [upload("a", "it fails"), upload("b")]
    line = not_sent(left, [*left, upload("c", sent=True)])
    assert line == (
        "W&B: 2 of 3 runs not uploaded (it fails): a, b; "
        "kept in runs/wandb; upload later: irmas review runs --sync"
    )


def test_the_remedy_can_be_pasted() -> None:
    left = Upload(Path("my runs/wandb/offline-run-1/run-a.wandb"), "a")
    assert not_sent([left], [left]).endswith("irmas review 'my runs' --sync")


def test_a_run_of_several_files_is_counted_once() -> None:
    parts = [upload("a"), upload("a")]
    parts[1].name = "0123abcd"
    told = "W&B: 1 of 1 runs not uploaded (the time was too short): a; kept in"
    assert not_sent(parts, parts).startswith(told)


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interruption_ends_the_waiting_and_tells_what_is_left(
    signal: type[BaseException],
    begun: list[Upload],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The work is done by then, and its result shown."""

    def interrupt(seconds: float) -> None:
        raise signal

    endless = upload("a")
    endless.ended.clear()
    with awaiting_uploads(60):
        begun += [endless, upload("b", sent=True)]
        monkeypatch.setattr("irmas_dist.tracking.uploads.time.sleep", interrupt)
    monkeypatch.undo()
    line = capsys.readouterr().err
    assert line.startswith("W&B: 1 of 2 runs not uploaded (interrupted): a; kept in runs/wandb")


def test_only_some_of_many_runs_are_named() -> None:
    left = [upload(f"run {number}", "x") for number in range(9)]
    line = not_sent(left, left)
    assert "run 0, run 1, run 2, run 3, run 4 and 4 more;" in line


def test_an_upload_without_problems_shows_the_addresses(
    begun: list[Upload], capsys: pytest.CaptureFixture[str]
) -> None:
    with awaiting_uploads(1):
        begun += [upload("a", sent=True), upload("a", sent=True), upload("b", sent=True)]
        addresses.append("http://w/tester/p/groups/g")
        afterwards.append(lambda: "http://w/view")
    shown = capsys.readouterr().err
    assert shown == "W&B: 2 runs uploaded http://w/tester/p/groups/g http://w/view\n"
    assert not addresses


def test_nothing_is_shown_where_nothing_was_uploaded(capsys: pytest.CaptureFixture[str]) -> None:
    with awaiting_uploads(1):
        pass
    assert not capsys.readouterr().err


def test_nothing_is_done_afterwards_unless_all_is_there(begun: list[Upload]) -> None:
    done: list[int] = []
    with awaiting_uploads(1):
        begun.append(upload("a", "x"))
        afterwards.append(lambda: done.append(1))
    assert not done


def test_what_is_done_afterwards_may_hang(
    begun: list[Upload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "LAST_S", 0.1)
    began, over = time.monotonic(), threading.Event()
    before = set(threading.enumerate())
    with awaiting_uploads(1):
        begun.append(upload("a", sent=True))
        afterwards.append(lambda: "late" if over.wait(10) else None)
    assert time.monotonic() - began < 3
    over.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert not addresses


@pytest.mark.parametrize(
    ("error", "most"), [(KeyboardInterrupt(), 0.2), (SystemExit(1), 0.2), (ValueError(), 0.6)]
)
def test_after_an_interruption_there_is_less_waiting(
    error: BaseException, most: float, begun: list[Upload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "INTERRUPTED_WAIT_S", 0.2)
    endless = Upload(Path("runs/wandb/offline-run-1-a/run-a.wandb"), "a")
    began = time.monotonic()
    begun.append(endless)
    with pytest.raises(type(error)), awaiting_uploads(0.6):
        raise error
    assert most <= time.monotonic() - began < most + 0.35


def show_to_the_end(settings: TrackingSettings, kind: str, name: str) -> None:
    before = set(threading.enumerate())
    show_address(settings, kind, name)
    for thread in set(threading.enumerate()) - before:
        if thread.is_alive():  # Its own threads may be starting just now.
            thread.join(10)


def test_an_address_is_shown_once_it_is_known(
    wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    show_to_the_end(TrackingSettings(), "runs", "1")
    assert addresses == [f"{wandb_server.url}/tester/irmas-dist/runs/1"]
    assert f"W&B: {addresses[0]}" in capsys.readouterr().err
    addresses.clear()


def test_an_address_that_cannot_be_known_is_not_missed(
    wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb_server.faults = [Fault(status=403)]
    show_to_the_end(TrackingSettings(), "runs", "1")
    assert not addresses
    assert "W&B:" not in capsys.readouterr().err

"""The live table, and the lines of ended trials where there is no terminal."""

import pytest

from irmas_dist.search.live_table import LiveTable


def test_every_line_of_an_ended_trial_names_the_best_so_far(
    capsys: pytest.CaptureFixture[str],
) -> None:
    live_table = LiveTable(total=3, epochs=2)
    # Of several that are equal it is the first, as in the table at the end.
    for number, values in enumerate([(0.2, 0.4), (0.7, 0.3), (0.7,)]):
        live_table.start(number)
        for epoch, value in enumerate(values, start=1):
            live_table.epoch(number, epoch, value)
        live_table.end(number, "completed")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("best ")[2].partition(";")[0] for line in lines] == [
        "0.400 (trial 0)", "0.700 (trial 1)", "0.700 (trial 1)",
    ]  # fmt: skip


def test_a_trial_without_a_result_is_not_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    live_table = LiveTable(total=2, epochs=2)
    live_table.start(0)
    live_table.end(0, "failed", "out of memory")
    line = capsys.readouterr().err
    assert "out of memory; 1 of 2" in line
    assert "best" not in line


def test_a_resumed_sweep_shows_the_trials_of_an_earlier_driver(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nothing = {"reason": None, "seconds": None}
    earlier = [
        {"number": 0, "state": "completed", "curve": [0.6, 0.8], **nothing},
        {"number": 2, "state": "failed", "curve": [], **nothing},
        {"number": 1, "state": "interrupted", "curve": [0.3, 0.5], **nothing},
    ]
    live_table = LiveTable(total=4, epochs=3, earlier=earlier)
    live_table.start(1)
    live_table.epoch(1, 2, 0.6)  # Its second epoch was not saved, and runs again.
    live_table.epoch(1, 3, 0.7)
    live_table.end(1, "completed")
    line = capsys.readouterr().err
    assert "trial 1 completed after 3 epochs: macro F1 0.700" in line
    assert "best 0.800 (trial 0); 3 of 4" in line


def test_the_best_is_of_completed_trials(capsys: pytest.CaptureFixture[str]) -> None:
    live_table = LiveTable(total=2, epochs=3, earlier=[])
    for number, value, state in ((0, 0.5, "completed"), (1, 0.9, "pruned")):
        live_table.start(number)
        live_table.epoch(number, 1, value)
        live_table.end(number, state)
    assert "best 0.500 (trial 0); 2 of 2" in capsys.readouterr().err

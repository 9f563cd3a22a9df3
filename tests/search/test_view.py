"""What people see of a sweep while it runs."""

import pytest

from irmas_dist.search.view import View


def test_every_line_of_a_trial_that_ended_names_the_best_so_far(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = View(total=3, done=0, epochs=2)
    for number, values in enumerate([(0.2, 0.4), (0.7, 0.3), (0.5,)]):
        view.start(number)
        for value in values:
            view.epoch(number, value)
        view.end(number, "completed")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("best ")[2].partition(";")[0] for line in lines] == [
        "0.400 (trial 0)", "0.700 (trial 1)", "0.700 (trial 1)",
    ]  # fmt: skip


def test_a_trial_without_a_result_is_not_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    view = View(total=2, done=0, epochs=2)
    view.start(0)
    view.end(0, "failed", "out of memory")
    line = capsys.readouterr().err
    assert "out of memory; 1 of 2" in line
    assert "best" not in line

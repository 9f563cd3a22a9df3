"""Entries draw, store and restore the values of one setting."""

import optuna
import pytest

from irmas_dist.search.entries import Entry, FloatEntry, read_entry, short


def entry(**content: object) -> Entry:
    return read_entry("a.setting", content, "the test")


def test_choices_that_optuna_cannot_store_are_restored() -> None:
    searched = entry(type="categorical", choices=[None, 2, [3, 1]])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert {searched.suggest("a", study.ask()) for _ in range(20)} == {None, 2, (3, 1)}
    stored = {trial.params["a"] for trial in study.trials}
    assert stored == {"null", 2, "[3, 1]"}
    assert {searched.restored(value) for value in stored} == {None, 2, (3, 1)}


def test_a_grid_takes_the_steps_of_a_range() -> None:
    assert entry(type="int", low=1, high=7, step=3).grid() == [1, 4, 7]
    assert entry(type="float", low=0.0, high=1.0, step=0.5).grid() == [0.0, 0.5, 1.0]
    assert entry(type="float", low=0.0, high=1.0).grid() is None


def test_the_nearest_value_is_in_the_range_and_on_a_step() -> None:
    searched = entry(type="float", low=0.5, high=2.0, step=0.5)
    assert isinstance(searched, FloatEntry)
    assert [searched.nearest(value) for value in (0.0, 1.2, 1.3, 9.0)] == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"), ("max", "max"), (1.2345e-5, "1.23e-05"), (1234567.0, "1234567"),
        ((3, 0.25), "[3, 0.25]"), (True, "True"),
    ],
)  # fmt: skip
def test_values_are_written_in_few_characters(value: object, text: str) -> None:
    assert short(value) == text

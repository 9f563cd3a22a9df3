"""Entries draw, store and restore the values of one setting."""

from decimal import Decimal

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    assert [*entry(type="int", low=1, high=7, step=3).grid()] == [1, 4, 7]
    assert [*entry(type="float", low=0.0, high=0.3, step=0.1).grid()] == [0.0, 0.1, 0.2, 0.3]
    assert [*entry(type="float", low=-0.3, high=0, step=0.1).grid()] == [-0.3, -0.2, -0.1, 0.0]
    assert entry(type="float", low=0.0, high=1.0).grid() is None


@settings(max_examples=100)
@given(
    low=st.decimals(-9, 9, places=4),
    step=st.decimals("0.0001", 9, places=4),
    steps=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_the_steps_of_a_range_are_those_that_are_written(
    low: Decimal, step: Decimal, steps: int, seed: int
) -> None:
    high = low + steps * step
    searched = entry(type="float", low=float(low), high=float(high), step=float(step))
    written = [float(low + index * step) for index in range(steps + 1)]
    assert list(searched.grid()) == written
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for value in written:
        study.enqueue_trial({"a": value})
        assert searched.contains(value)
        assert searched.suggest("a", study.ask()) == value
    trial = study.ask()
    assert searched.suggest("a", trial) == searched.restored(trial.params["a"])
    assert searched.restored(trial.params["a"]) in written
    assert not searched.contains(float(low + step / 2))


def test_a_value_beside_the_steps_is_not_in_the_range() -> None:
    assert entry(type="float", low=0.0, high=1.0).contains(0.3)
    whole = entry(type="int", low=64, high=512, step=64)
    assert [value for value in (64, 100, 128, 128.5, 576) if whole.contains(value)] == [64, 128]
    assert not entry(type="int", low=1, high=3).contains(2.5)


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

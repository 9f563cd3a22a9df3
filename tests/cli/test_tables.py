"""At 80 columns every value of a table is whole and stands on one line."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from irmas_dist.cli import search, tables
from irmas_dist.config.decisions import AGGREGATION_RULES, ObjectiveName
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.shipped import shipped_names
from irmas_dist.instruments import IRMAS
from irmas_dist.search.entries import CategoricalEntry, short
from irmas_dist.search.live_table import LiveTable
from irmas_dist.search.space import load_space

STATES = ("completed", "pruned", "failed", "interrupted", "running")
WIDTH = 80


def rendered(table: RenderableType) -> list[str]:
    console = Console(width=WIDTH, record=True)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert "…" not in capture.get()
    assert max(map(len, lines)) <= WIDTH
    return lines


def trials(params: dict[str, Any]) -> list[dict[str, Any]]:
    """Five trials with the same values, and a sixth for the rest."""
    return [
        {
            "number": 1000 + number, "state": state, "value": 0.43123, "second": 1234567.0,
            "epochs": 1000, "params": params,
        }
        for number, state in enumerate([*STATES, "completed"])
    ]  # fmt: skip


@pytest.mark.parametrize("name", shipped_names("space"))
def test_five_trials_of_every_shipped_space_show_every_choice(name: str) -> None:
    entries = load_space(name, Recipe()).entries
    most = max(len(e.choices) for e in entries.values() if isinstance(e, CategoricalEntry))
    shares = dict.fromkeys(entries, 1 / len(entries)) | {next(iter(entries)): 1.0}
    for choice in range(most):
        params = {
            name: entry.choices[min(choice, len(entry.choices) - 1)]
            if isinstance(entry, CategoricalEntry)
            else 1.2345e-5
            if entry.type == "float"
            else entry.high
            for name, entry in entries.items()
        }
        rows = trials(params)
        lines = rendered(tables.trial_tables(rows[:5], rows[5:], shares, "parameters"))
        text = "\n".join(lines)
        assert all(state in text for state in STATES)
        assert "1234567" in text
        labels = tables.short_names(list(params))
        for setting, value in params.items():
            (line,) = [line for line in lines if line.startswith(f"{labels[setting]} ")]
            # Beside the label, in each of the six columns or once with the trials that have it.
            cells = line.removeprefix(labels[setting])
            assert cells.count(short(value)) >= 6 or all(
                str(row["number"]) in cells for row in rows[:5]
            )
            assert short(value) in cells


def test_a_value_too_wide_for_a_column_names_its_trials() -> None:
    rows = trials({"thresholds.rule": "global", "training.lr": 0.001})
    rows[1] = rows[1] | {"params": {"thresholds.rule": "per_instrument"}}
    lines = [line.split() for line in rendered(tables.trial_tables(rows[:3], rows[3:]))]
    assert ["lr", "0.001", "0.001", "0.001"] in lines
    assert ["rule", "global", "1000", "1002", "rest"] in lines
    assert ["per_instrument", "1001"] in lines


def test_a_line_says_that_columns_are_trials_and_what_shares_are_of() -> None:
    rows = trials({"training.lr": 0.001})
    assert "settings of each trial:" in rendered(tables.trial_tables(rows))
    lines = rendered(tables.trial_tables(rows, (), {"training.lr": 1.0}))
    assert "settings of each trial; share: a setting's importance for macro F1:" in lines
    rows = trials({})
    assert not any("settings" in line for line in rendered(tables.trial_tables(rows)))


def test_names_are_as_short_as_they_are_distinct() -> None:
    names = ["model.blocks", "model.dropout.blocks", "window.seconds", "features.seconds", "seed"]
    assert list(tables.short_names(names).values()) == [
        "blocks", "dropout.blocks", "window.seconds", "features.seconds", "seed",
    ]  # fmt: skip


def test_the_live_table_shows_long_trials_and_the_reasons_of_failures() -> None:
    live_table = LiveTable(total=1000, epochs=1000)
    live_table.lines = False
    for number, state in enumerate(STATES, start=1000):
        live_table.start(number)
        for epoch in range(1, 101):
            live_table.epoch(number, epoch, epoch / 101)
        if state in ("completed", "pruned", "failed"):
            live_table.end(number, state, "out of memory " * 9 if state == "failed" else None)
    lines = rendered(live_table.render())
    for state in ("completed", "pruned", "failed", "running"):
        assert any(state in line and "100/1000" in line and "0.990" in line for line in lines)
    assert " ".join(" ".join(lines).split()).count("out of memory") == 9


@pytest.mark.parametrize("objective", ObjectiveName.__args__)
def test_thresholds_and_their_objective_fit(
    objective: str, shown: Callable[[], list[RenderableType]]
) -> None:
    codes = IRMAS.codes
    description = SimpleNamespace(
        instruments={code: IRMAS.name(code) for code in codes},
        thresholds=dict.fromkeys(codes, 0.123456) | {codes[0]: 1.5},
        thresholds_from="x",
        members=(),
    )
    windows = [SimpleNamespace(aggregation=rule, hop_frames=10_000) for rule in AGGREGATION_RULES]
    candidates = [
        SimpleNamespace(windows=one, fitted=-10.12345, cross_validated=float("nan"))
        for one in windows
    ]
    search.show_thresholds(description, candidates, objective, json_output=False)
    fits, ways, why, _ = shown()
    assert "too few groups" in str(why)
    assert sum("0.123" in line for line in rendered(fits)) == len(codes) - 1
    lines = rendered(ways)
    for rule in AGGREGATION_RULES:
        assert sum(rule in line and "-10.123" in line and "none" in line for line in lines) == 1
    assert any(f"{objective} fitted" in line for line in lines)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[RenderableType]]:
    """Results that commands show, in order."""
    results: list[RenderableType] = []
    monkeypatch.setattr(search, "show", results.append)
    return lambda: results


@pytest.mark.parametrize("name", ["acoustic guitar", "bass clarinet in the lowest register"])
def test_no_figure_of_an_instrument_is_cut(name: str) -> None:
    row = {
        "name": name,
        "clips": 12_345,
        "known": 67_890,
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
    }
    row |= {"f1_low": 1.0, "f1_high": 1.0, "ap": 1.0, "threshold": None}
    for partly_known in (False, True):
        lines = rendered(tables.instrument_table([row], "cross-validated", partly_known))
        (values,) = [line for line in lines if "12345" in line]
        assert "1.00-1.00" in values
        assert "by fold" in values
        assert values.count("1.000") == 4
        assert ("67890" in values) == partly_known


@pytest.mark.parametrize("name", ["ukulele", "hat [/x]", "hat [x]"])
def test_an_instrument_that_is_known_in_no_clip_has_no_figures(name: str) -> None:
    row = dict.fromkeys(("precision", "recall", "f1", "f1_low", "f1_high", "ap"), 0.0)
    row |= {"name": name, "clips": 0, "known": 0, "threshold": 0.5}
    lines = rendered(tables.instrument_table([row], "cross-validated", partly_known=True))
    (values,) = [line for line in lines if name in line]
    assert "0 of 0" in values
    assert "0.000" not in values

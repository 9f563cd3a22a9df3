"""The charts of a sweep's page: well-formed, with every trial where its values are."""

import math
from typing import Any
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from irmas_dist.config.recipe import Recipe
from irmas_dist.reports.sweep_charts import (
    TOP,
    by_importance,
    history_plot,
    learning_curves,
    parallel_coordinates,
    parallel_coordinates_page,
    slice_plot,
)
from irmas_dist.search.space import Space, build_space
from tests.search.conftest import ENTRIES

LEFT, RIGHT, BOTTOM, TOP_EDGE = 44.0, 332.0, 186.0, 14.0
"""The corners of the axes of all charts but the parallel coordinates."""


@pytest.fixture
def space() -> Space:
    return build_space(ENTRIES, Recipe(), "the test")


def trial(
    number: int, value: float | None, state: str = "completed", **more: Any
) -> dict[str, Any]:
    params = {"model.head": "flatten", "augment.mix.counts": [1], "training.lr": 1e-3}
    return {"number": number, "value": value, "state": state, "params": params, "curve": []} | more


def elements(chart: Markup, tag: str) -> list[ElementTree.Element]:
    """Return the elements of a chart, which must be XML."""
    assert isinstance(chart, Markup)
    root = ElementTree.fromstring(chart)
    assert (root.tag, root.get("role")) == ("svg", "img")
    assert root.get("aria-label")
    return list(root.iter(tag))


def points(chart: Markup) -> list[list[tuple[float, float]]]:
    """Return the points of each line through points."""
    return [
        [tuple(map(float, pair.split(","))) for pair in str(line.get("points")).split()]
        for line in elements(chart, "polyline")
    ]


def dots(chart: Markup) -> list[tuple[float, float]]:
    return [(float(c.get("cx")), float(c.get("cy"))) for c in elements(chart, "circle")]


def texts(chart: Markup) -> list[str | None]:
    return [text.text for text in elements(chart, "text")]


def test_settings_are_ordered_by_importance(space: Space) -> None:
    names = by_importance(space, {"training.lr": 0.7, "model.dense": 0.3})
    assert names == ["training.lr", "model.dense", "model.head", "augment.mix.counts"]


def test_a_line_goes_through_the_values_of_its_trial(space: Space) -> None:
    better = trial(0, 0.75)
    worse = trial(1, 0.25, params={"model.head": "max", "model.dense": 256, "training.lr": 1e-2})
    shares = {"training.lr": 0.5, "model.dense": 0.3, "model.head": 0.2}
    chart = parallel_coordinates([better, worse], space, shares)
    # Five axes from 60 to 870, from 330 up to 30: lr, dense, head, counts, macro F1; the best last.
    axes = [float(line.get("x1")) for line in elements(chart, "line")]
    assert axes == [60, 262.5, 465, 667.5, 870]
    assert points(chart) == [
        [(60, 30), (262.5, 30), (465, 105), (870, 330)],
        [(60, 180), (465, 255), (667.5, 255), (870, 30)],
    ]
    titles = [title.text for title in elements(chart, "title")]
    assert titles == ["trial 1: macro F1 0.250", "trial 0: macro F1 0.750"]
    assert {"training.lr", "macro F1", "0.25", "0.75", "[2, 1]", "flatten"} <= set(texts(chart))


def test_the_best_trials_have_another_colour(space: Space) -> None:
    rows = [trial(number, 0.9 - number / 10) for number in range(TOP + 2)]
    lines = elements(parallel_coordinates(rows, space, {}), "polyline")
    colours = [line.get("stroke") for line in lines]
    assert colours == ["var(--first)"] * 2 + ["var(--second)"] * TOP


def test_the_page_of_the_parallel_coordinates_sets_every_colour(space: Space) -> None:
    page = parallel_coordinates_page([trial(0, 0.5)], space, {})
    chart = page[page.index("<svg") :]
    assert points(Markup(chart)) == points(parallel_coordinates([trial(0, 0.5)], space, {}))
    for name in ("page", "ink", "muted", "line", "first", "second"):
        assert f"--{name}:#" in page


def test_a_slice_has_a_dot_per_trial_hollow_where_it_was_stopped(space: Space) -> None:
    low = trial(0, 0.75, params={"training.lr": 1e-4})
    high = trial(1, 0.25, state="pruned", params={"training.lr": 1e-2})
    without = trial(2, 0.5, params={})
    chart = slice_plot([low, without, high, trial(3, None)], space, "training.lr")
    assert dots(chart) == [(RIGHT, BOTTOM), (LEFT, TOP_EDGE)]
    hollow, full = elements(chart, "circle")
    assert (hollow.get("fill"), full.get("fill")) == ("none", "var(--second)")
    assert texts(chart) == ["0.25", "0.50", "0.75", "0.0001", "0.01"]


def test_the_best_trials_have_their_colour_in_a_slice_that_not_all_of_them_have(
    space: Space,
) -> None:
    rows = [trial(number, 0.9 - number / 10, params={}) for number in range(TOP)]
    last = trial(TOP, 0.1, params={"training.lr": 1e-3})
    (circle,) = elements(slice_plot([*rows, last], space, "training.lr"), "circle")
    assert circle.get("fill") == "var(--first)"


def test_a_slice_of_choices_has_them_side_by_side(space: Space) -> None:
    rows = [trial(0, 0.75), trial(1, 0.25, params={"augment.mix.counts": (2, 1)})]
    chart = slice_plot(rows, space, "augment.mix.counts")
    quarter = (RIGHT - LEFT) / 4
    assert dots(chart) == [(RIGHT - quarter, BOTTOM), (LEFT + quarter, TOP_EDGE)]
    assert texts(chart)[-2:] == ["[1]", "[2, 1]"]


def test_a_value_outside_of_the_space_is_at_its_edge(space: Space) -> None:
    chart = slice_plot([trial(0, 0.5, params={"training.lr": 1.0})], space, "training.lr")
    assert dots(chart) == [(RIGHT, (BOTTOM + TOP_EDGE) / 2)]


def test_the_history_steps_up_at_each_better_trial() -> None:
    rows = [trial(2, 0.75), trial(0, 0.25), trial(4, 0.5), trial(1, 0.25), trial(3, None)]
    chart = history_plot(rows)
    middle = (BOTTOM + TOP_EDGE) / 2
    across = [LEFT + (RIGHT - LEFT) * number / 4 for number in range(5)]
    assert dots(chart) == [
        (across[0], BOTTOM), (across[1], BOTTOM), (across[2], TOP_EDGE), (across[4], middle),
    ]  # fmt: skip
    assert points(chart) == [
        [(LEFT, BOTTOM), (across[2], BOTTOM), (across[2], TOP_EDGE), (RIGHT, TOP_EDGE)]
    ]
    assert texts(chart)[-3:] == ["0", "4", "trial"]


def test_the_best_so_far_is_of_completed_trials() -> None:
    rows = [trial(0, 0.25), trial(1, 0.75, state="pruned"), trial(2, 0.25)]
    assert points(history_plot(rows)) == [[(LEFT, BOTTOM), (RIGHT, BOTTOM)]]


@pytest.mark.parametrize(
    ("values", "axis"),
    [
        ((0.25, 0.75), ["0.25", "0.50", "0.75"]),
        ((0.5, 0.501), ["0.5000", "0.5005", "0.5010"]),
        ((0.0101, 0.0103), ["0.0101", "0.0102", "0.0103"]),
    ],
)
def test_the_labels_of_an_axis_are_told_apart(
    values: tuple[float, float], axis: list[str], space: Space
) -> None:
    rows = [trial(number, value) for number, value in enumerate(values)]
    assert texts(history_plot(rows))[:3] == axis
    assert len(set(texts(parallel_coordinates(rows, space, {}))[-2:])) == 2


def test_curves_end_in_a_dot_at_their_last_epoch() -> None:
    longest = trial(0, 0.75, curve=[0.25, 0.5, 0.75])
    stopped = trial(1, 0.5, curve=[0.25, 0.5])
    chart = learning_curves([longest, stopped, trial(2, None)])
    centre = ((LEFT + RIGHT) / 2, (BOTTOM + TOP_EDGE) / 2)
    assert points(chart) == [
        [(LEFT, BOTTOM), centre],
        [(LEFT, BOTTOM), centre, (RIGHT, TOP_EDGE)],
    ]
    assert dots(chart) == [centre, (RIGHT, TOP_EDGE)]
    assert texts(chart)[-3:] == ["1", "3", "epoch"]


def test_without_results_charts_have_axes_alone(space: Space) -> None:
    rows = [trial(0, None, state="failed")]
    charts = [
        *(parallel_coordinates(some, space, {}) for some in ([], rows)),
        *(slice_plot(some, space, "model.head") for some in ([], rows)),
        *(history_plot(some) for some in ([], rows)),
        *(learning_curves(some) for some in ([], rows)),
    ]
    for chart in charts:
        assert elements(chart, "line")
        assert not elements(chart, "polyline")
        assert not elements(chart, "circle")


def test_equal_values_and_a_single_epoch_are_drawn(space: Space) -> None:
    rows = [trial(number, 0.5, curve=[0.5]) for number in (0, 1)]
    middle = (BOTTOM + TOP_EDGE) / 2
    assert dots(history_plot(rows)) == [(LEFT, middle), (RIGHT, middle)]
    assert dots(learning_curves(rows)) == [(LEFT, BOTTOM)] * 2
    for line in points(parallel_coordinates(rows, space, {})):
        assert all(math.isfinite(number) for point in line for number in point)


def test_names_in_charts_are_escaped() -> None:
    entry = {"model.activation": {"type": "categorical", "choices": ["relu", "gelu"]}}
    hostile = Space(build_space(entry, Recipe(), "the test").entries)
    hostile.entries['<b> & "'] = hostile.entries.pop("model.activation")
    rows = [trial(0, 0.5, params={'<b> & "': "relu"})]
    assert '<b> & "' in texts(parallel_coordinates(rows, hostile, {}))
    chart = slice_plot(rows, hostile, '<b> & "')
    assert ElementTree.fromstring(chart).get("aria-label") == 'Macro F1 over <b> & "'

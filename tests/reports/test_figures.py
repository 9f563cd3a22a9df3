"""The charts of a model's page: well-formed, with values where they belong."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup

from irmas_dist.evaluation.calibration import reliability
from irmas_dist.reports.figures import (
    bars,
    precision_recall_curve,
    reliability_diagram,
    training_curve,
)

HOSTILE = '<b> & "c"'


def parsed(chart: Markup) -> ElementTree.Element:
    """Return a chart's root; it must be XML, and an image with a text alternative."""
    assert isinstance(chart, Markup)
    root = ElementTree.fromstring(chart)
    assert (root.tag, root.get("role")) == ("svg", "img")
    return root


def texts(chart: Markup) -> list[str]:
    return [str(text.text) for text in parsed(chart).iter("text")]


def lines(chart: Markup, variable: str) -> list[list[tuple[float, float]]]:
    """Return the points of each line in a colour."""
    return [
        [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path.get("d", ""))]
        for path in parsed(chart).iter("path")
        if f"stroke: var(--{variable})" in path.get("style", "")
        and "fill: none" in path.get("style", "")
    ]


def dots(chart: Markup, variable: str) -> list[tuple[float, float]]:
    """Return the places of the markers in a colour."""
    return [
        (float(use.get("x", "nan")), float(use.get("y", "nan")))
        for use in parsed(chart).iter("use")
        if f"fill: var(--{variable})" in use.get("style", "")
    ]


def array(*values: float) -> np.ndarray:
    return np.array(values, np.uint8 if set(values) <= {0, 1} else np.float32)


def curve(labels: np.ndarray, scores: np.ndarray, decisions: np.ndarray) -> Markup:
    return precision_recall_curve(labels, scores, decisions, HOSTILE)


def any_chart() -> list[Markup | None]:
    labels, scores = array(1, 0, 1, 0), array(0.9, 0.6, 0.4, 0.1)
    history = [{"epoch": 1, "train_loss": 0.5, "val_loss": 0.75}]
    return [
        curve(labels, scores, array(1, 1, 0, 0)),
        reliability_diagram(reliability(labels[:, None], scores[:, None]), 0, HOSTILE),
        training_curve(history, "loss", HOSTILE),
        bars([HOSTILE, "b"], [0.25, 1.0], "x", HOSTILE),
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_chart_has_its_description_and_the_colours_of_the_page(number: int) -> None:
    chart = any_chart()[number]
    assert chart is not None
    root = parsed(chart)
    assert root.get("aria-label") == HOSTILE
    assert root.get("viewBox")
    assert not re.search(r"(fill|stroke): #", chart)
    assert "<style" not in chart
    assert "<metadata" not in chart
    # What is referred to by an id is in the chart.
    ids = {element.get("id") for element in root.iter()}
    references = re.findall(r'(?:href="|url\()#([^")]+)', chart)
    assert set(references) <= ids


def test_one_input_gives_one_chart_and_ids_differ_between_charts() -> None:
    def ids(description: str) -> set[str]:
        chart = training_curve([{"epoch": 1, "val_loss": 1.0}], "loss", description)
        return set(re.findall(r'id="([^"]+)"', str(chart)))

    assert ids("a") == ids("a") != set()
    assert not ids("a") & ids("b")


def test_decisions_are_marked_where_their_precision_and_recall_are() -> None:
    labels, scores = array(1, 0, 1, 0), array(0.9, 0.6, 0.4, 0.1)
    right, half = array(1, 0, 1, 0), array(1, 1, 0, 0)
    ((perfect_x, perfect_y),) = dots(curve(labels, scores, right), "second")
    ((half_x, half_y),) = dots(curve(labels, scores, half), "second")
    (sure,) = dots(curve(labels, scores, array(1, 0, 0, 0)), "second")
    assert sure == pytest.approx((half_x, perfect_y), abs=0.1)
    assert half_x < perfect_x  # recall of a half, and of 1
    assert half_y > perfect_y  # y runs downward: precision of a half, and of 1
    assert "F1 1.00" in texts(curve(labels, scores, right))
    assert "F1 0.50" in texts(curve(labels, scores, half))
    # The curve ends at recall 1 and precision 2 of 4, level with the half.
    (drawn,) = lines(curve(labels, scores, half), "first")
    assert drawn[0] == pytest.approx((half_x, perfect_y), abs=0.1)
    assert drawn[1] == pytest.approx((half_x, half_y), abs=0.1)
    assert drawn[-1] == pytest.approx((perfect_x, half_y), abs=0.1)


def test_an_instrument_that_is_never_predicted_or_in_no_clip_says_so() -> None:
    scores = array(0.9, 0.6)
    never = curve(array(1, 0), scores, array(0, 0))
    assert "never predicted" in texts(never)
    assert not dots(never, "second")
    nowhere = curve(array(0, 0), scores, array(1, 0))
    assert "in no clip" in texts(nowhere)
    assert not lines(nowhere, "first")
    assert not dots(nowhere, "second")


def test_of_calibration_only_bins_with_clips_are_drawn() -> None:
    labels = np.array([[0, 0], [1, 0], [1, 0]], np.uint8)
    scores = np.array([[0.05, 0.5], [0.95, 0.5], [0.95, 0.5]], np.float32)
    bins = reliability(labels, scores)
    (points,) = lines(reliability_diagram(bins, 0, "a"), "first")
    ((low_x, low_y), (high_x, high_y)) = points
    assert low_x < high_x
    assert low_y > high_y
    one = reliability_diagram(bins, 1, "b")
    assert len(dots(one, "first")) == 1


HISTORY = [
    {"epoch": 1, "train_loss": 0.75, "val_loss": 1.0},
    {"epoch": 2, "train_loss": 0.5, "val_loss": float("nan")},
    {"epoch": 3, "train_loss": 0.25, "val_loss": None, "val_f1": 0.625},
]


def test_training_and_validation_are_named_with_their_last_known_values() -> None:
    chart = training_curve(HISTORY, "loss", "Loss")
    assert chart is not None
    assert {"training 0.250", "validation 1.000", "epoch"} <= set(texts(chart))
    (training,) = [line for line in lines(chart, "second") if len(line) == 3]
    ((first_x, first_y), (middle_x, middle_y), (last_x, last_y)) = training
    assert middle_x - first_x == pytest.approx(last_x - middle_x, abs=0.2)
    assert first_y < middle_y < last_y  # the loss falls
    (validation,) = dots(chart, "first")
    assert validation[0] == pytest.approx(first_x, abs=0.2)


def test_a_metric_that_is_known_of_one_epoch_is_a_dot() -> None:
    chart = training_curve(HISTORY, "f1", "F1")
    assert chart is not None
    assert "validation 0.625" in texts(chart)
    assert len(dots(chart, "first")) == 1
    assert not dots(chart, "second")


@pytest.mark.parametrize("history", [[], HISTORY])
def test_a_metric_that_is_in_no_epoch_has_no_curve(history: list[dict]) -> None:
    assert training_curve(history, "accuracy", "Accuracy") is None


def test_bars_have_their_number_above_and_their_name_below() -> None:
    chart = bars(["[a]", HOSTILE], [0.25, 0.5], "instruments", "Bars")
    assert {"[a]", HOSTILE, "0.25", "0.50", "instruments"} <= set(texts(chart))
    heights = []
    for path in parsed(chart).iter("path"):
        if "fill: var(--first)" in path.get("style", ""):
            ys = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", path.get("d", ""))]
            heights.append(max(ys) - min(ys))
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.3)


def test_no_bars_are_an_empty_chart() -> None:
    assert texts(bars([], [], "instruments", "Bars")) == ["instruments"]


@pytest.mark.parametrize(("count", "width"), [(2, 352), (14, 14 * 88)])
def test_each_bar_has_the_width_of_a_label_such_as_1021_clips(count: int, width: int) -> None:
    chart = bars(["1,021 clips"] * count, [0.5] * count, "instruments", "Bars")
    assert parsed(chart).get("viewBox") == f"0 0 {width} 210"

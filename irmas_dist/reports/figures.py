"""The charts of a model's page, as SVG to be placed inside HTML.

Text stays text, in the page's typeface. Colours are CSS variables (``--ink``,
``--muted``, ``--line``, ``--first``, ``--second``) which the page sets for light and dark.
Sizes are in CSS pixels at a scale of one. Titles are left to the page; a chart's ``description`` is
its text alternative.
"""

import html
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from irmas_dist.evaluation.calibration import Reliability
from irmas_dist.evaluation.metrics import precision_recall_f1
from irmas_dist.evaluation.operating_points import operating_points
from irmas_dist.instruments import UNKNOWN

# Placeholders that matplotlib accepts; `_render` replaces them by the variables.
INK, MUTED, LINE, FIRST, SECOND = "#1a1a1b", "#6a6a6b", "#d0d0d1", "#0072b2", "#d55e00"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", FIRST: "first", SECOND: "second"}

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.0,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
}


def precision_recall_curve(
    labels: npt.NDArray[np.integer[Any]],
    scores: npt.NDArray[np.floating[Any]],
    decisions: npt.NDArray[np.integer[Any]],
    description: str,
) -> Markup:
    """Draw one instrument's precision against recall, with the actual decisions marked.

    Labels, scores and decisions are of shape (clips,).
    """
    known = labels != UNKNOWN
    labels, scores, decisions = labels[known], scores[known], decisions[known]
    _, true_positives, predicted = operating_points(labels, scores)
    positives = int(labels.sum())
    curve = precision_recall_f1(true_positives[1:], predicted[1:], positives)
    marked = precision_recall_f1(
        np.count_nonzero(decisions & labels), np.count_nonzero(decisions), positives
    )

    def draw(axes: Axes) -> None:
        _unit_square(axes)
        if not positives:
            axes.text(0.5, 0.5, "in no clip", ha="center", va="center", color=MUTED)
            return
        # Clipped, half of the line would be hidden where precision is 1.
        axes.plot(curve.recall, curve.precision, color=FIRST, linewidth=1.6, clip_on=False)
        if not decisions.any():
            axes.text(0.96, 0.94, "never predicted", ha="right", va="top", color=INK)
            return
        precision, recall, f1 = marked
        axes.plot([recall], [precision], "o", color=SECOND, markersize=6.5, clip_on=False)
        # Curves fall to the right: the space above and right of a point is free, and below and
        # left of it, unless the axis is near.
        if recall < 0.6:
            offset, ha, va = (6, 4), "left", "bottom" if precision < 0.85 else "top"
        elif precision > 0.25:
            offset, ha, va = (-2, -7), "right", "top"
        else:
            offset, ha, va = (-2, 7), "right", "bottom"
        _annotate(axes, f"F1 {f1:.2f}", (recall, precision), offset, ha=ha, va=va)

    return _render(draw, width=176, height=168, description=description)


def reliability_diagram(bins: Reliability, instrument: int, description: str) -> Markup:
    """Draw the share of clips with an instrument against its score; the diagonal is calibrated.

    The number of clips of a bin sets the size of its dot.
    """
    clips = bins.clips[:, instrument]
    some = clips > 0
    score, frequency = bins.score[some, instrument], bins.frequency[some, instrument]

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1.0)
        _unit_axes(axes, "score", "plays")
        axes.plot(score, frequency, color=FIRST, linewidth=1.2, clip_on=False)
        area = 6 + 90 * clips[some] / clips.sum()
        axes.scatter(score, frequency, s=area, color=FIRST, clip_on=False, zorder=3)

    return _render(draw, width=176, height=168, description=description)


def training_curve(
    history: Sequence[dict[str, Any]], metric: str, description: str
) -> Markup | None:
    """Draw a metric over the epochs, training and validation; None if it is not in the history.

    Args:
        history: One row per epoch: ``epoch``, and the metric as ``train_<metric>`` or
            ``val_<metric>`` or both.
        metric: Name of the metric, such as ``loss``.
        description: Text alternative of the figure.
    """
    curves = []
    for prefix, name, colour in (("train", "training", SECOND), ("val", "validation", FIRST)):
        rows = [(row["epoch"], row.get(f"{prefix}_{metric}")) for row in history]
        known = [(epoch, v) for epoch, v in rows if v is not None and math.isfinite(v)]
        if known:
            curves.append((name, colour, known))
    if not curves:
        return None

    def draw(axes: Axes) -> None:
        for _, colour, known in curves:
            epochs, values = zip(*known, strict=True)
            axes.plot(epochs, values, color=colour)
            axes.plot(epochs[-1:], values[-1:], "o", color=colour, markersize=4.5)
        axes.grid(axis="y")
        axes.locator_params(axis="y", nbins=5)
        first, last = history[0]["epoch"], history[-1]["epoch"]
        ticks = MaxNLocator(5, integer=True, min_n_ticks=1).tick_values(first, last)
        axes.set_xticks([tick for tick in ticks if first <= tick <= last])
        axes.set_xlabel("epoch", loc="left")
        _name_lines_at_their_ends(axes, [(name, known[-1]) for name, _, known in curves])

    return _render(draw, width=320, height=200, description=description)


def bars(names: Sequence[str], values: Sequence[float], xlabel: str, description: str) -> Markup:
    """Draw values from 0 to 1 as bars, each with its number above and its name below."""

    def draw(axes: Axes) -> None:
        drawn = axes.bar(range(len(values)), values, width=0.62, color=FIRST)
        axes.bar_label(drawn, [f"{value:.2f}" for value in values], padding=3, color=INK)
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.5, max(len(names), 4) - 0.5)
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(xlabel, loc="left")

    return _render(draw, width=max(352, 88 * len(names)), height=210, description=description)


def _unit_square(axes: Axes) -> None:
    """Set up axes of recall and precision, with faint lines of equal F1."""
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(f1 / (2 - f1), 1, 25)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color=LINE, linewidth=0.8)
    _unit_axes(axes, "recall", "precision")


def _unit_axes(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_xlabel(xlabel, loc="right", labelpad=1)
    axes.set_ylabel(ylabel, loc="top", labelpad=1)


def _name_lines_at_their_ends(axes: Axes, ends: list[tuple[str, tuple[float, float]]]) -> None:
    """Write each line's name to the right of its last point, without overlap."""
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.42 * (right - left))
    bottom, top = axes.get_ylim()
    line_height = 0.09 * (top - bottom)
    below = -math.inf
    for name, (x, y) in sorted(ends, key=lambda end: end[1][1]):
        below = max(y, below + line_height)
        _annotate(axes, f"{name} {y:.3f}", (x, below), (7, 0), va="center")


def _annotate(
    axes: Axes, text: str, point: tuple[Any, Any], offset: tuple[int, int], **alignment: Any
) -> None:
    axes.annotate(text, point, offset, textcoords="offset points", color=INK, **alignment)


def _render(draw: Callable[[Axes], None], width: int, height: int, description: str) -> Markup:
    """Return what ``draw`` draws on one set of axes as an ``<svg>`` element."""
    # The salt makes ids reproducible, and unique in a page.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": description}):
        # One CSS pixel is one point of matplotlib, of which an inch has 72.
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        axes.set_axisbelow(True)
        draw(axes)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Removed is what is invalid inside a page, would style all of it, or only makes it larger.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg).replace("xlink:href", "href")
    svg = re.sub(r'font-family: [^;"]*; | transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: _shorter(path[0]), svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    for colour, name in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    body = svg[svg.index(">") + 1 :]
    label = html.escape(description)
    return Markup(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{body}')


def _shorter(path: str) -> str:
    """Round the coordinates of an SVG path to a tenth of a pixel."""
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.1f}", path)

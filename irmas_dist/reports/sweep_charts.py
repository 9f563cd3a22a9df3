"""The charts of a sweep's page, as SVG to be placed inside HTML.

Colours are CSS variables (``--ink``, ``--muted``, ``--line``, ``--first``, ``--second``) that the
page sets for light and dark. Trials come as rows, see `list_trials`, the best first.
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from irmas_dist.search.entries import CategoricalEntry, short
from irmas_dist.search.space import Space

Row = Mapping[str, Any]

TOP = 5
"""Number of best trials in another colour."""

AXES = 9
"""Number of settings in the parallel coordinates, the most important ones."""


def parallel_coordinates(rows: Sequence[Row], space: Space, shares: Mapping[str, float]) -> str:
    """Draw every trial as a line through its values, the best ones in another colour.

    Args:
        rows: Trials.
        space: What was searched.
        shares: Importance by name; the most important settings are the first axes.
    """
    valued = [row for row in rows if row["value"] is not None]
    names = _by_importance(space, shares)[:AXES]
    width, height, top, bottom = 960, 380, 30, 330
    step = (width - 150) / max(len(names), 1)
    scales = {name: _Scale(space, name) for name in names}
    low, high = _value_range(valued)
    body: list[str] = []
    for rank in reversed(range(len(valued))):
        row = valued[rank]
        colour = "second" if rank < TOP else "first"
        opacity = 0.9 if rank < TOP else 0.15 + 0.35 * (1 - rank / len(valued))
        points: list[tuple[float, float]] = []
        for i, name in enumerate(names):
            if name in row["params"]:
                share = scales[name].share(row["params"][name])
                points.append((60 + i * step, bottom - share * (bottom - top)))
        value = (row["value"] - low) / (high - low)
        points.append((60 + len(names) * step, bottom - value * (bottom - top)))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        title = html.escape(f"trial {row['number']}: macro F1 {row['value']:.3f}")
        body.append(
            f'<polyline points="{path}" fill="none" stroke="var(--{colour})" '
            f'stroke-opacity="{opacity:.2f}" stroke-width="1.6"><title>{title}</title></polyline>'
        )
    for i, name in enumerate([*names, "macro F1"]):
        x = 60 + i * step
        body.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" {_LINE}/>')
        # Neighbouring names would overlap: every other one is lower.
        y = bottom + 22 + 16 * (i % 2)
        body.append(_text(x, y, name, "middle", "ink"))
        marks = (
            [(share, label) for share, label in scales[name].marks()]
            if name in scales
            else [(0.0, f"{low:.2f}"), (1.0, f"{high:.2f}")]
        )
        for share, label in marks:
            body.append(_text(x + 5, bottom - share * (bottom - top) + 4, label, "start", "muted"))
    return _svg(width, height, "Every trial as a line through its values", body)


def parallel_coordinates_page(
    rows: Sequence[Row], space: Space, shares: Mapping[str, float]
) -> str:
    """Return the parallel coordinates as an HTML page for W&B."""
    return (
        "<style>:root{color-scheme:light;--page:#fff;--ink:#1c2126;--muted:#5d6670;--line:#d9dde1;"
        "--first:#0072b2;--second:#d55e00}body{font-family:system-ui,sans-serif}</style>"
        + parallel_coordinates(rows, space, shares)
    )


def slice_plot(rows: Sequence[Row], space: Space, name: str) -> str:
    """Draw macro F1 over one setting's values: a dot per trial, hollow where it was stopped."""
    scale = _Scale(space, name)
    shown = [row for row in rows if row["value"] is not None and name in row["params"]]
    low, high = _value_range([row for row in rows if row["value"] is not None])
    body = _axes(low, high)
    for rank, row in reversed(list(enumerate(shown))):
        x = _X0 + scale.share(row["params"][name]) * (_X1 - _X0)
        y = _Y0 - (row["value"] - low) / (high - low) * (_Y0 - _Y1)
        colour = "second" if rank < TOP else "first"
        fill = f"var(--{colour})" if row["state"] == "completed" else "none"
        title = html.escape(f"trial {row['number']}: {row['params'][name]}, {row['value']:.3f}")
        body.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}" fill-opacity=".75" '
            f'stroke="var(--{colour})"><title>{title}</title></circle>'
        )
    for share, label in scale.marks():
        x = _X0 + share * (_X1 - _X0)
        body.append(_text(x, _Y0 + 16, label, "middle", "muted"))
    return _svg(_WIDTH, _HEIGHT, f"Macro F1 over {name}", body)


def history_plot(rows: Sequence[Row]) -> str:
    """Draw macro F1 over the trials in order, and the best so far as a line."""
    shown = sorted((r for r in rows if r["value"] is not None), key=lambda r: r["number"])
    low, high = _value_range(shown)
    last = max((row["number"] for row in shown), default=1) or 1
    body = _axes(low, high)
    best, line = -math.inf, list[tuple[float, float]]()
    for row in shown:
        x = _X0 + row["number"] / last * (_X1 - _X0)
        y = _Y0 - (row["value"] - low) / (high - low) * (_Y0 - _Y1)
        fill = "var(--first)" if row["state"] == "completed" else "none"
        body.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}" fill-opacity=".75" '
            f'stroke="var(--first)"/>'
        )
        if row["value"] > best:
            if line:
                line.append((x, line[-1][1]))
            best = row["value"]
            line.append((x, y))
    if line:
        line.append((_X1, line[-1][1]))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        body.append(
            f'<polyline points="{path}" fill="none" stroke="var(--second)" stroke-width="1.8"/>'
        )
    body.append(_text(_X0, _Y0 + 16, "0", "middle", "muted"))
    body.append(_text(_X1, _Y0 + 16, str(last), "middle", "muted"))
    body.append(_text((_X0 + _X1) / 2, _Y0 + 16, "trial", "middle", "muted"))
    return _svg(_WIDTH, _HEIGHT, "Macro F1 by trial, and the best so far", body)


def learning_curves(rows: Sequence[Row]) -> str:
    """Draw the best macro F1 so far by epoch: the best trials, and faintly the others."""
    shown = [row for row in rows if row["curve"]]
    values = [value for row in shown for value in row["curve"]]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = high if high > low else low + 0.01
    epochs = max((len(row["curve"]) for row in shown), default=1)
    body = _axes(low, high)

    def point(epoch: int, value: float) -> tuple[float, float]:
        x = _X0 + (epoch - 1) / max(epochs - 1, 1) * (_X1 - _X0)
        return x, _Y0 - (value - low) / (high - low) * (_Y0 - _Y1)

    for rank, row in reversed(list(enumerate(shown))):
        points = [point(epoch, value) for epoch, value in enumerate(row["curve"], 1)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        colour, opacity = ("second", 0.95) if rank < TOP else ("first", 0.25)
        x, y = points[-1]
        body.append(
            f'<g stroke-opacity="{opacity}"><polyline points="{path}" fill="none" '
            f'stroke="var(--{colour})" stroke-width="1.6"><title>trial {row["number"]}</title>'
            f'</polyline></g><circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="var(--{colour})" '
            f'fill-opacity="{opacity}"/>'
        )
    body.append(_text(_X0, _Y0 + 16, "1", "middle", "muted"))
    body.append(_text(_X1, _Y0 + 16, str(epochs), "middle", "muted"))
    body.append(_text((_X0 + _X1) / 2, _Y0 + 16, "epoch", "middle", "muted"))
    return _svg(_WIDTH, _HEIGHT, "Macro F1 by epoch", body)


_WIDTH, _HEIGHT = 352, 220
_X0, _X1, _Y0, _Y1 = 44.0, 332.0, 186.0, 14.0
_LINE = 'stroke="var(--line)" stroke-width="1"'


class _Scale:
    """Maps a setting's values to an axis from 0 to 1."""

    def __init__(self, space: Space, name: str) -> None:
        self._entry = space.entries[name]

    def share(self, value: Any) -> float:
        entry = self._entry
        if isinstance(entry, CategoricalEntry):
            choices = [_plain(choice) for choice in entry.choices]
            return (choices.index(_plain(value)) + 0.5) / len(choices)
        warp: Callable[[float], float] = math.log if entry.log else float
        low, high = warp(entry.low), warp(entry.high)
        return min(max((warp(value) - low) / (high - low), 0.0), 1.0)

    def marks(self) -> list[tuple[float, str]]:
        entry = self._entry
        if isinstance(entry, CategoricalEntry):
            return [(self.share(choice), short(choice)) for choice in entry.choices]
        return [(0.0, short(entry.low)), (1.0, short(entry.high))]


def _plain(value: Any) -> Any:
    """Return a value that equals itself after a round trip through JSON."""
    return tuple(value) if isinstance(value, list) else value


def _by_importance(space: Space, shares: Mapping[str, float]) -> list[str]:
    return sorted(space.entries, key=lambda name: -shares.get(name, 0.0))


def _value_range(rows: Sequence[Row]) -> tuple[float, float]:
    values = [row["value"] for row in rows]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.005, high + 0.005)


def _axes(low: float, high: float) -> list[str]:
    body = []
    for share in (0.0, 0.5, 1.0):
        y = _Y0 - share * (_Y0 - _Y1)
        body.append(f'<line x1="{_X0}" x2="{_X1}" y1="{y:.1f}" y2="{y:.1f}" {_LINE}/>')
        body.append(_text(_X0 - 8, y + 4, f"{low + share * (high - low):.2f}", "end", "muted"))
    return body


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" '
        f'fill="var(--{colour})" stroke="var(--page)" stroke-width="3" paint-order="stroke">'
        f"{html.escape(text)}</text>"
    )


def _svg(width: int, height: int, description: str, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(description)}">{"".join(body)}</svg>'
    )

"""The charts of a sweep's page, as SVG to be placed inside HTML.

Colours are CSS variables (``--ink``, ``--muted``, ``--line``, ``--first``, ``--second``) that the
page sets for light and dark. Trials come as rows, see `list_trials`, the best first.
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from irmas_dist.search.entries import CategoricalEntry, Entry, short
from irmas_dist.search.space import Space

Row = Mapping[str, Any]

TOP = 5
"""Number of best trials in another colour."""

AXES = 9
"""Number of settings in the parallel coordinates, the most important ones."""


def by_importance(space: Space, shares: Mapping[str, float]) -> list[str]:
    """Return the names of a space's settings, the most important first."""
    return sorted(space.entries, key=lambda name: -shares.get(name, 0.0))


def parallel_coordinates(rows: Sequence[Row], space: Space, shares: Mapping[str, float]) -> Markup:
    """Draw every trial as a line through its values, the best ones in another colour.

    Args:
        rows: Trials.
        space: What was searched.
        shares: Importance by name; the most important settings are the first axes.
    """
    valued = [row for row in rows if row["value"] is not None]
    names = by_importance(space, shares)[:AXES]
    top, bottom, height = 30, 330, 300
    step = 810 / max(len(names), 1)
    low, high = _value_range(valued)
    body: list[str] = []
    for rank in reversed(range(len(valued))):
        row = valued[rank]
        opacity = 0.9 if rank < TOP else 0.15 + 0.35 * (1 - rank / len(valued))
        points = [
            (60 + i * step, bottom - _share(space.entries[name], row["params"][name]) * height)
            for i, name in enumerate(names)
            if name in row["params"]
        ]
        value = (row["value"] - low) / (high - low)
        points.append((60 + len(names) * step, bottom - value * height))
        title = html.escape(f"trial {row['number']}: macro F1 {row['value']:.3f}")
        body.append(
            f'{_polyline(points, _colour(rank))} stroke-opacity="{opacity:.2f}" '
            f'stroke-width="1.6"><title>{title}</title></polyline>'
        )
    for i, name in enumerate([*names, "macro F1"]):
        x = 60 + i * step
        body.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" {_LINE}/>')
        # Neighbouring names would overlap: every other one is lower.
        y = bottom + 22 + 16 * (i % 2)
        body.append(_text(x, y, name, "middle", "ink"))
        digits = _digits(high - low)
        values = [(0.0, f"{low:.{digits}f}"), (1.0, f"{high:.{digits}f}")]
        for share, label in _marks(space.entries[name]) if i < len(names) else values:
            body.append(_text(x + 5, bottom - share * height + 4, label, "start", "muted"))
    return _svg(960, 380, "Every trial as a line through its values", body)


def parallel_coordinates_page(
    rows: Sequence[Row], space: Space, shares: Mapping[str, float]
) -> str:
    """Return the parallel coordinates as an HTML page for W&B."""
    return (
        "<style>:root{color-scheme:light;--page:#fff;--ink:#1c2126;--muted:#5d6670;--line:#d9dde1;"
        "--first:#0072b2;--second:#d55e00}body{font-family:system-ui,sans-serif}</style>"
        f"{parallel_coordinates(rows, space, shares)}"
    )


def slice_plot(rows: Sequence[Row], space: Space, name: str) -> Markup:
    """Draw macro F1 over one setting's values: a dot per trial, hollow where it was stopped."""
    entry = space.entries[name]
    valued = [row for row in rows if row["value"] is not None]
    low, high = _value_range(valued)
    body = _axes(low, high)
    for rank, row in reversed(list(enumerate(valued))):
        if name not in row["params"]:
            continue
        share = _share(entry, row["params"][name])
        circle = _circle(share, (row["value"] - low) / (high - low), row, _colour(rank))
        title = html.escape(f"trial {row['number']}: {row['params'][name]}, {row['value']:.3f}")
        body.append(f"{circle}><title>{title}</title></circle>")
    body += [_below(share, label) for share, label in _marks(entry)]
    return _svg(_WIDTH, _HEIGHT, f"Macro F1 over {name}", body)


def history_plot(rows: Sequence[Row]) -> Markup:
    """Draw macro F1 over the trials in order, and the best so far of the completed as a line."""
    shown = sorted((r for r in rows if r["value"] is not None), key=lambda r: r["number"])
    low, high = _value_range(shown)
    last = max((row["number"] for row in shown), default=1) or 1
    body = _axes(low, high)
    best, line = -math.inf, list[tuple[float, float]]()
    for row in shown:
        across, up = row["number"] / last, (row["value"] - low) / (high - low)
        body.append(f"{_circle(across, up, row, 'first')}/>")
        if row["state"] == "completed" and row["value"] > best:
            x, y = _point(across, up)
            if line:
                line.append((x, line[-1][1]))
            best = row["value"]
            line.append((x, y))
    if line:
        line.append((_X1, line[-1][1]))
        body.append(f'{_polyline(line, "second")} stroke-width="1.8"/>')
    body += [_below(0, "0"), _below(1, str(last)), _below(0.5, "trial")]
    return _svg(_WIDTH, _HEIGHT, "Macro F1 by trial, and the best so far", body)


def learning_curves(rows: Sequence[Row]) -> Markup:
    """Draw the best macro F1 so far by epoch: the best trials, and faintly the others."""
    shown = [(rank, row) for rank, row in enumerate(rows) if row["curve"]]
    values = [value for _, row in shown for value in row["curve"]]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = high if high > low else low + 0.01
    epochs = max((len(row["curve"]) for _, row in shown), default=1)
    body = _axes(low, high)
    for rank, row in reversed(shown):
        points = [
            _point(index / max(epochs - 1, 1), (value - low) / (high - low))
            for index, value in enumerate(row["curve"])
        ]
        colour, opacity = _colour(rank), 0.95 if rank < TOP else 0.25
        x, y = points[-1]
        body.append(
            f'<g stroke-opacity="{opacity}">{_polyline(points, colour)} stroke-width="1.6">'
            f"<title>trial {row['number']}</title></polyline></g>"
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="var(--{colour})" '
            f'fill-opacity="{opacity}"/>'
        )
    body += [_below(0, "1"), _below(1, str(epochs)), _below(0.5, "epoch")]
    return _svg(_WIDTH, _HEIGHT, "Macro F1 by epoch", body)


_WIDTH, _HEIGHT = 352, 220
_X0, _X1, _Y0, _Y1 = 44.0, 332.0, 186.0, 14.0
_LINE = 'stroke="var(--line)" stroke-width="1"'


def _share(entry: Entry, value: Any) -> float:
    """Return the position of a setting's value on an axis from 0 to 1."""
    if isinstance(entry, CategoricalEntry):
        # Tuples are lists after a round trip through JSON.
        choices = [list(c) if isinstance(c, tuple) else c for c in entry.choices]
        value = list(value) if isinstance(value, tuple) else value
        return (choices.index(value) + 0.5) / len(choices)
    warp: Callable[[float], float] = math.log if entry.log else float
    low, high = warp(entry.low), warp(entry.high)
    return min(max((warp(value) - low) / (high - low), 0.0), 1.0)


def _marks(entry: Entry) -> list[tuple[float, str]]:
    """Return the labels of a setting's axis and their positions from 0 to 1."""
    if isinstance(entry, CategoricalEntry):
        return [(_share(entry, choice), short(choice)) for choice in entry.choices]
    return [(0.0, short(entry.low)), (1.0, short(entry.high))]


def _colour(rank: int) -> str:
    return "second" if rank < TOP else "first"


def _value_range(rows: Sequence[Row]) -> tuple[float, float]:
    values = [row["value"] for row in rows]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.005, high + 0.005)


def _axes(low: float, high: float) -> list[str]:
    body, digits = [], _digits((high - low) / 2)
    for share in (0.0, 0.5, 1.0):
        y, value = _Y0 - share * (_Y0 - _Y1), low + share * (high - low)
        body.append(f'<line x1="{_X0}" x2="{_X1}" y1="{y:.1f}" y2="{y:.1f}" {_LINE}/>')
        body.append(_text(_X0 - 8, y + 4, f"{value:.{digits}f}", "end", "muted"))
    return body


def _digits(step: float) -> int:
    """Return the decimals that tell values apart which are a step from each other; at least 2."""
    return max(2, math.ceil(-math.log10(step)))


def _point(across: float, up: float) -> tuple[float, float]:
    """Return the coordinates of a point whose position on both axes is from 0 to 1."""
    return _X0 + across * (_X1 - _X0), _Y0 - up * (_Y0 - _Y1)


def _circle(across: float, up: float, row: Row, colour: str) -> str:
    """Begin the dot of a trial, hollow where it was not completed."""
    x, y = _point(across, up)
    fill = f"var(--{colour})" if row["state"] == "completed" else "none"
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}" fill-opacity=".75" '
        f'stroke="var(--{colour})"'
    )


def _polyline(points: Sequence[tuple[float, float]], colour: str) -> str:
    """Begin a line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="var(--{colour})"'


def _below(across: float, text: str) -> str:
    """Return a label below the horizontal axis."""
    return _text(_X0 + across * (_X1 - _X0), _Y0 + 16, text, "middle", "muted")


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" '
        f'fill="var(--{colour})" stroke="var(--page)" stroke-width="3" paint-order="stroke">'
        f"{html.escape(text)}</text>"
    )


def _svg(width: int, height: int, description: str, body: Sequence[str]) -> Markup:
    label = html.escape(description)
    start = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
    return Markup(f"{start}{''.join(body)}</svg>")

"""Scores over time in files: a CSV with a row per window, and a picture of it."""

from collections.abc import Sequence

import numpy as np

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.inference.audio_inputs import AudioInput
from irmas_dist.inference.predictor import Timeline
from irmas_dist.inference.results import csv_line
from irmas_dist.instruments import Vocabulary

MOST_COLUMNS = 2_000
"""Columns of a picture: of more windows than that, each shows the largest score of several."""

TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600)
"""Seconds between marks on the axis of time, the first that makes few enough of them."""

MOST_TICKS = 10


def require_distinct(sources: Sequence[AudioInput]) -> None:
    """Refuse files whose timelines would be written to one place.

    Raises:
        IrmasError: Two files have the same name.
    """
    seen: dict[str, str] = {}
    for source in sources:
        if source.name in seen:
            raise IrmasError(
                f"--timeline: {seen[source.name]} and {source.path} would both be "
                f"{source.name}.csv; name a folder above both, or one at a time"
            )
        seen[source.name] = source.path


def write_timeline(
    folder: str, name: str, timeline: Timeline, vocabulary: Vocabulary
) -> tuple[str, str]:
    """Write a file's scores over time as ``NAME.csv`` and ``NAME.png``.

    Args:
        folder: Path or URL.
        name: Of the audio file, which may lie in folders of its own.
        timeline: What was heard.
        vocabulary: The instruments.

    Returns:
        The two files.

    Raises:
        IrmasError: They cannot be written.
    """
    table, picture = (storage.join(folder, name + suffix) for suffix in (".csv", ".png"))
    lines = [csv_line(["start_s", "end_s", *timeline.codes])]
    lines += [
        csv_line([f"{start:.3f}", f"{end:.3f}", *(f"{score:.9g}" for score in scores)])
        for start, end, scores in zip(
            timeline.starts, timeline.ends, timeline.windows.tolist(), strict=True
        )
    ]
    with storage.write_atomically(table) as stream:
        stream.write("".join(lines).encode())
    draw(picture, name, timeline, vocabulary)
    return table, picture


def draw(out: str, title: str, timeline: Timeline, vocabulary: Vocabulary) -> None:
    """Draw a heat map to a PNG: time across, instruments down, scores from 0 to 1 in colour.

    Windows overlap: each is drawn from the middle between it and the one before to the middle
    between it and the next.
    """
    # Here, because it takes a second to import, and few predictions are drawn.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    middles = (timeline.starts + timeline.ends) / 2
    edges = np.concatenate(
        [timeline.starts[:1], (middles[1:] + middles[:-1]) / 2, timeline.ends[-1:]]
    )
    # Fewer columns than the picture has dots would hide what is between them.
    firsts = np.arange(0, len(middles), -(-len(middles) // MOST_COLUMNS))
    scores = np.maximum.reduceat(timeline.windows, firsts, axis=0)
    figure = Figure(figsize=(10, 1.4 + 0.28 * len(timeline.codes)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(
        np.append(edges[firsts], edges[-1]),
        np.arange(len(timeline.codes) + 1) - 0.5,
        scores.T,
        vmin=0,
        vmax=1,
        cmap="magma",
    )
    axes.invert_yaxis()
    axes.set_yticks(range(len(timeline.codes)), [vocabulary.name(code) for code in timeline.codes])
    axes.tick_params(axis="y", length=0)
    most = (edges[-1] - edges[0]) / MOST_TICKS
    step = next((step for step in TICKS_S if step >= most), 3_600 * np.ceil(most / 3_600))
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    axes.set_xlabel("time (min:s)")
    axes.set_title(title, parse_math=False)
    figure.colorbar(mesh, ax=axes, label="score", pad=0.01)
    with storage.write_atomically(out) as stream:
        FigureCanvasAgg(figure).print_png(stream)


def clock(seconds: float) -> str:
    """Return a time as ``m:ss``, with hours where there are any, and tenths only if not whole."""
    tenths = round(seconds * 10)
    minutes, left = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{left // 10:02d}" + (f".{left % 10}" if left % 10 else "")
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"

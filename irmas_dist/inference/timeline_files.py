"""Timelines as files: scores over time in CSV, a row per window, and as a heat map."""

from collections.abc import Mapping

import numpy as np

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.inference.results import csv_line
from irmas_dist.inference.timeline import Timeline
from irmas_dist.instruments import Vocabulary

MAX_COLUMNS = 2_000
"""Columns of a heat map; with more windows, each shows the largest score of several."""

TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600)
"""Seconds between ticks of the time axis: the smallest that gives at most `MAX_TICKS`."""

MAX_TICKS = 10


def timeline_files(name: str) -> tuple[str, str]:
    """Return the names of the table and the picture of an audio file, in the folder for both."""
    return storage.name_after(name, ".csv"), storage.name_after(name, ".png")


def has_timeline(folder: str, name: str) -> bool:
    """Return whether the timeline of an audio file is in a folder."""
    return all(storage.exists(storage.join(folder, file)) for file in timeline_files(name))


def require_distinct(files: Mapping[str, str]) -> None:
    """Check that no two timelines would be written to the same file.

    Args:
        files: Names by path, as `find_audio` returns them.

    Raises:
        IrmasError: Two files have the same name.
    """
    paths: dict[str, str] = {}
    for path, name in files.items():
        if (other := paths.setdefault(name, path)) != path:
            raise IrmasError(
                f"--timeline: {other} and {path} would both be {timeline_files(name)[0]}; "
                "give a folder above both, or predict one at a time"
            )


def write_timeline(folder: str, name: str, timeline: Timeline, vocabulary: Vocabulary) -> None:
    """Write a timeline as ``NAME.csv`` and ``NAME.png``, or as `timeline_files` names them.

    Args:
        folder: Path or URL.
        name: That of the audio file, as `find_audio` returns it.
        timeline: Its scores over time.
        vocabulary: The instruments.

    Raises:
        IrmasError: They cannot be written.
    """
    table, picture = (storage.join(folder, file) for file in timeline_files(name))
    lines = [csv_line(["start_s", "end_s", *timeline.codes])]
    lines += [
        csv_line([f"{start:.3f}", f"{end:.3f}", *(f"{score:.9g}" for score in scores)])
        for start, end, scores in zip(
            timeline.starts, timeline.ends, timeline.windows.tolist(), strict=True
        )
    ]
    with storage.write_atomically(table) as stream:
        stream.write("".join(lines).encode())
    draw_timeline(picture, storage.as_text(name), timeline, vocabulary)


def draw_timeline(out: str, title: str, timeline: Timeline, vocabulary: Vocabulary) -> None:
    """Draw a timeline as a PNG: time across, instruments down, scores from 0 to 1 in colour.

    Windows overlap: the edge between two of them is drawn halfway between their centres.
    """
    # Here, because it takes a second to import, and few predictions are drawn.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    centres = (timeline.starts + timeline.ends) / 2
    edges = np.concatenate(
        [timeline.starts[:1], (centres[1:] + centres[:-1]) / 2, timeline.ends[-1:]]
    )
    # More columns than the image has pixels would hide some of the windows.
    firsts = np.arange(0, len(centres), -(-len(centres) // MAX_COLUMNS))
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
    smallest = (edges[-1] - edges[0]) / MAX_TICKS
    step = next((step for step in TICKS_S if step >= smallest), 3_600 * np.ceil(smallest / 3_600))
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    axes.set_xlabel("time (min:s)")
    axes.set_title(title, parse_math=False)
    figure.colorbar(mesh, ax=axes, label="score", pad=0.01)
    with storage.write_atomically(out) as stream:
        FigureCanvasAgg(figure).print_png(stream)


def clock(seconds: float) -> str:
    """Return a time as ``m:ss`` or ``h:mm:ss``, with tenths of a second if they are not zero."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{tenths // 10:02d}" + (f".{tenths % 10}" if tenths % 10 else "")
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"

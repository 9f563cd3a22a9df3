"""A picture of one file's log-mel spectrogram, the input of the network."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from irmas_dist import storage
from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import AudioError, IrmasError
from irmas_dist.features.logmel import log_mel
from irmas_dist.features.mel import band_centres

TICKS_HZ = (125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000)
"""Frequencies marked on the axis, within the range of the bands."""


def draw(audio: str, settings: LogMelSettings, out: Path) -> str | None:
    """Draw a file's spectrogram with its axes in seconds and Hz, and a colour bar, to a PNG.

    Returns:
        One line on what is unusual of the audio, as `log_mel` notes it.

    Raises:
        IrmasError: The file cannot be used, or the picture not be written.
    """
    notes: list[str] = []
    try:
        mel = log_mel(audio, settings, note=notes.append).astype(np.float32)
    except AudioError as error:
        raise IrmasError(f"{audio}: {error}") from error
    figure = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    seconds = mel.shape[1] / settings.frames_per_second
    image = axes.imshow(
        mel,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="magma",
        extent=(0, seconds, -0.5, len(mel) - 0.5),
    )
    centres = band_centres(settings)
    marked = [hz for hz in TICKS_HZ if centres[0] <= hz <= centres[-1]]
    axes.set_yticks(np.interp(marked, centres, np.arange(len(centres))), [f"{f:,}" for f in marked])
    axes.set_xlabel("time (s)")
    axes.set_ylabel(f"frequency (Hz), {settings.bands} mel bands")
    axes.set_title(storage.as_text(Path(audio).name), parse_math=False)
    quantity = {1.0: "magnitude", 2.0: "power"}.get(settings.power, f"magnitude^{settings.power:g}")
    figure.colorbar(image, ax=axes, label=f"natural logarithm of {quantity}", pad=0.01)
    with storage.write_atomically(out) as stream:
        FigureCanvasAgg(figure).print_png(stream)
    return next(iter(notes), None)

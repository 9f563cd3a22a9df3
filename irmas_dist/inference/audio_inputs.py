"""The audio files behind paths, URLs and standard input, and the prediction of one file."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from irmas_dist import storage
from irmas_dist.corpus.audio_files import audio_in
from irmas_dist.errors import AudioError, IrmasError, without_password
from irmas_dist.inference.timeline import Timeline

if TYPE_CHECKING:
    from irmas_dist.inference.predictor import Predictor

STDIN = "-"
"""Stands for an audio file on standard input."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of a file.

    Attributes:
        path: The file.
        scores: From 0 to 1 by instrument code; empty when the file cannot be used.
        instruments: Codes of those whose score reaches their threshold.
        error: Why the file cannot be used.
        note: One line if it is silent or very short, or its channels cancel each other.
        timeline: Scores over time, if requested.
        adapted_to: What the model of the scores is adapted to; None if to nothing.
    """

    path: str
    scores: dict[str, float] = field(default_factory=dict)
    instruments: list[str] = field(default_factory=list)
    error: str | None = None
    note: str | None = None
    timeline: Timeline | None = None
    adapted_to: str | None = None

    @property
    def name(self) -> str:
        """The path as text for a reader, without the secrets of a URL."""
        return without_password(storage.as_text(self.path))


def find_audio(inputs: Sequence[str]) -> dict[str, str]:
    """Find the audio files that inputs stand for: files themselves, and all files of folders.

    A file that does not exist is included, so that only its own prediction fails.

    Args:
        inputs: Paths or URLs of files and folders, or `STDIN`.

    Returns:
        By path or URL, the path relative to the folder given; of a single file, its file name.

    Raises:
        IrmasError: A folder contains no audio, or cannot be read.
    """
    found: dict[str, str] = {}
    for given in inputs:
        path = Path(given)
        if given == STDIN:
            inside = {STDIN: "stdin"}
        elif storage.is_url(given):
            inside = {storage.join(given, file): file for file in audio_in(given)}
        elif path.is_dir():
            inside = {str(path / file): file for file in audio_in(path)}
            if not inside:
                raise IrmasError(f"{given} holds no audio files")
        else:
            inside = {}
        for file, name in (inside or {given: path.name}).items():
            found.setdefault(file, name)
    return found


def predict_file(predictor: "Predictor", path: str, timeline: bool = False) -> Prediction:
    """Predict one file; if it cannot be used, the prediction holds the error.

    Args:
        predictor: The model.
        path: Path or URL, or `STDIN`.
        timeline: Whether to return scores over time.
    """
    try:
        with reopenable(path) as file:
            scored = predictor.timeline(file)
    except AudioError as error:
        return Prediction(path, error=str(error))
    return as_prediction(predictor, path, scored, timeline)


def as_prediction(
    predictor: "Predictor", path: str, scored: Timeline, timeline: bool = False
) -> Prediction:
    """Return the prediction of a scored file, with its timeline on request."""
    instruments = predictor.decide(scored.scores)
    adapted_to = predictor.description.adapted_to
    shown = scored if timeline else None
    return Prediction(
        path, scored.scores, instruments, None, scored.note, shown, adapted_to=adapted_to
    )


@contextmanager
def reopenable(path: str) -> Iterator[str]:
    """Yield a path that can be opened twice and sought in: of a pipe, that of a temporary copy."""
    if path != STDIN and (storage.is_url(path) or not Path(path).is_fifo()):
        yield path
        return
    if path == STDIN and sys.stdin.isatty():
        raise IrmasError("- stands for an audio file on standard input, and nothing is piped in")
    with tempfile.NamedTemporaryFile(prefix="irmas-") as copy:
        with nullcontext(sys.stdin.buffer) if path == STDIN else Path(path).open("rb") as stream:
            shutil.copyfileobj(stream, copy)
        copy.flush()
        yield copy.name

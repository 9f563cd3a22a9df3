"""The audio that a user names, as files, and the prediction of one of them."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from irmas_dist import storage
from irmas_dist.corpus.audio_files import audio_in
from irmas_dist.errors import IrmasError
from irmas_dist.features.audio import AudioError
from irmas_dist.inference.predictor import Predictor, Timeline

STDIN = "-"
"""Stands for an audio file on standard input."""


@dataclass(frozen=True)
class AudioInput:
    """An audio file to predict.

    Attributes:
        path: Path or URL, as the user named it or its folder; `STDIN` for standard input.
        name: Its path relative to the folder that was named; of a file, its name alone.
    """

    path: str
    name: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model predicts for a file.

    Attributes:
        path: The file.
        scores: From 0 to 1 by instrument code; empty when the file cannot be used.
        instruments: Codes of those whose score reaches their threshold.
        error: Why the file cannot be used.
        timeline: Scores over time, if asked for.
    """

    path: str
    scores: dict[str, float] = field(default_factory=dict)
    instruments: list[str] = field(default_factory=list)
    error: str | None = None
    timeline: Timeline | None = None


def find_audio(names: Sequence[str]) -> list[AudioInput]:
    """List the files that are named and the audio files in the folders that are named, each once.

    A file that does not exist stays in the list, so that it alone fails.

    Args:
        names: Paths or URLs of files and folders, or `STDIN`.

    Raises:
        IrmasError: A folder contains no audio, or cannot be read.
    """
    inputs = (each for name in names for each in _inputs(name))
    found: dict[str, AudioInput] = {}
    for each in inputs:
        found.setdefault(each.path, each)
    return list(found.values())


def _inputs(name: str) -> list[AudioInput]:
    if name == STDIN:
        return [AudioInput(STDIN, "stdin")]
    folder = Path(name)
    if storage.is_url(name):
        inside = [AudioInput(storage.join(name, file), file) for file in audio_in(name)]
        return inside or [AudioInput(name, folder.name)]
    if not folder.is_dir():
        return [AudioInput(name, folder.name)]
    inside = [AudioInput(str(folder / file), file) for file in audio_in(folder)]
    if not inside:
        raise IrmasError(f"{name} holds no audio files")
    return inside


def predict_file(predictor: Predictor, path: str, timeline: bool = False) -> Prediction:
    """Predict one file; if it cannot be used, the prediction holds the error.

    Args:
        predictor: The model.
        path: Path or URL, or `STDIN`.
        timeline: Whether to return scores over time.
    """
    try:
        with _reopenable(path) as file:
            scored = predictor.timeline(file)
    except AudioError as error:
        return Prediction(path, error=str(error))
    instruments = predictor.decide(scored.scores)
    return Prediction(path, scored.scores, instruments, timeline=scored if timeline else None)


@contextmanager
def _reopenable(path: str) -> Iterator[str]:
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

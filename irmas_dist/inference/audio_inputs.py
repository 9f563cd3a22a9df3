"""Many files to predictions: what the user named to files, and each of them to its scores."""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from irmas_dist import storage
from irmas_dist.corpus.audio_files import audio_in
from irmas_dist.errors import IrmasError
from irmas_dist.features.audio import AudioError
from irmas_dist.inference.predictor import Predictor, Timeline

STDIN = "-"
"""Stands for the bytes of an audio file on standard input."""


@dataclass(frozen=True)
class AudioInput:
    """An audio file to be heard.

    Attributes:
        path: Path or URL, as the user named it or its folder; `STDIN` for standard input.
        name: Its path in the folder that was named, or the file's name alone.
    """

    path: str
    name: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model heard in a file.

    Attributes:
        path: The file.
        scores: From 0 to 1 by instrument code; empty when the file could not be used.
        instruments: Codes of those whose score reaches their threshold.
        error: Why the file could not be used.
        timeline: Scores over time, where they were asked for.
    """

    path: str
    scores: dict[str, float] = field(default_factory=dict)
    instruments: list[str] = field(default_factory=list)
    error: str | None = None
    timeline: Timeline | None = None


def find_audio(names: Sequence[str]) -> list[AudioInput]:
    """List the files that are named, and the audio files in the folders that are.

    A file that is not there stays in the list: it is for that file alone to fail.

    Args:
        names: Paths or URLs of files and folders, or `STDIN`.

    Raises:
        IrmasError: A folder holds no audio, or may not be read.
    """
    found: dict[str, AudioInput] = {}
    for name in names:
        for source in _audio_of(name):
            found.setdefault(source.path, source)
    return list(found.values())


def _audio_of(name: str) -> list[AudioInput]:
    if name == STDIN:
        return [AudioInput(STDIN, "stdin")]
    if storage.is_url(name):
        inside = [AudioInput(storage.join(name, file), file) for file in audio_in(name)]
        return inside or [AudioInput(name, Path(name).name)]
    folder = Path(name)
    if not folder.is_dir():
        return [AudioInput(name, folder.name)]
    inside = [AudioInput(str(folder / file), file) for file in audio_in(folder)]
    if not inside:
        raise IrmasError(f"{name} holds no audio files")
    return inside


def predict(predictor: Predictor, path: str, timeline: bool = False) -> Prediction:
    """Predict one file; one that cannot be used says so in its prediction.

    Args:
        predictor: The model.
        path: Path or URL; or `STDIN`, whose bytes go to a temporary file first, since most
            formats cannot be decoded from a pipe, and none can be read twice.
        timeline: Whether scores over time are kept.
    """
    try:
        with _readable(path) as file:
            heard = predictor.timeline(file)
    except AudioError as error:
        return Prediction(path, error=str(error))
    return Prediction(
        path=path,
        scores=heard.scores,
        instruments=predictor.decide(heard.scores),
        timeline=heard if timeline else None,
    )


def predict_each(
    predictor: Predictor, paths: Iterable[str], timeline: bool = False
) -> Iterator[Prediction]:
    """Predict files one by one, in this process."""
    for path in paths:
        yield predict(predictor, path, timeline)


@contextmanager
def _readable(path: str) -> Iterator[str]:
    """Give a path that can be opened twice: a pipe is copied to a temporary file first."""
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

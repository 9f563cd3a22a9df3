"""Which files of a tree get a row in its manifest, and which label file belongs to which audio."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from irmas_dist.errors import IrmasError

AUDIO_SUFFIXES = frozenset(
    {".aac", ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac"}
    | {".m4a", ".mp3", ".ogg", ".opus", ".w64", ".wav", ".wma"}
)
"""Files that get a row; for those that libsndfile cannot decode it says so."""


@dataclass(frozen=True)
class Source:
    """A file of the tree that may get a row.

    Attributes:
        path: The audio file; none for a label file that has no audio beside it.
        labels: The label file; none when there is none.
        clip_id: Path in the tree without suffix, Unicode NFC.
        folder: Name of the folder that it lies in, Unicode NFC.
    """

    path: Path | None
    labels: Path | None
    clip_id: str
    folder: str


def find_sources(tree: Path) -> list[Source]:
    """List the audio files of a tree, and the text files without audio of their name.

    Links to files and folders are followed; what is hidden is left out.

    Raises:
        IrmasError: There is no such directory, no audio file in it, or a folder in it may not
            be read.
    """
    if not tree.is_dir():
        raise IrmasError(f"{tree}: no such directory")
    root = tree.absolute()
    try:
        sources = [source for found in _folders(root) for source in _sources(root, *found)]
    except OSError as error:
        raise IrmasError(f"{error.filename}: {error.strerror}") from error
    if not any(source.path for source in sources):
        raise IrmasError(f"{tree} holds no audio files; expected folders such as cel/ with WAVs")
    return sources


def as_text(name: str) -> str:
    """Return a name on disk as text that can be stored; bytes that are not UTF-8 become ``?``."""
    return name.encode("utf-8", "replace").decode()


def _folders(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[tuple[Path, set[str]]]:
    """Yield folders with the names of the files in them, those behind links included."""
    real = folder.resolve()
    if real in above:
        return  # a link that leads back up
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    yield folder, {entry.name for entry in entries if not entry.is_dir()}
    for entry in entries:
        # A hidden folder is not the tree's: an archive that is being extracted, a trash.
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _folders(folder / entry.name, above | {real})


def _sources(root: Path, folder: Path, names: set[str]) -> Iterator[Source]:
    """Yield the files of one folder that may get a row, in order of their names."""
    # Beginning with a dot: hidden, such as what macOS leaves beside real files.
    paths = [Path(name) for name in sorted(names) if not name.startswith(".")]
    audio = [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
    texts = {_composed(path.stem): path for path in paths if path.suffix.lower() == ".txt"}
    place = folder.relative_to(root)
    within = _composed(folder.name)
    for path in audio:
        own = path.with_suffix(".txt")
        # Copying can compose the one name and leave the other decomposed.
        labels = own if own.name in names else texts.get(_composed(path.stem))
        yield Source(
            path=folder / path,
            labels=folder / labels if labels else None,
            clip_id=_composed((place / path.stem).as_posix()),
            folder=within,
        )
    for stem in sorted(texts.keys() - {_composed(path.stem) for path in audio}):
        clip_id = _composed((place / stem).as_posix())
        yield Source(path=None, labels=folder / texts[stem], clip_id=clip_id, folder=within)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", as_text(name))

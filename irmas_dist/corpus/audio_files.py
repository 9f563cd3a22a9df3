"""Which files of a tree get a row in its manifest, and which label file belongs to which audio."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from irmas_dist import storage
from irmas_dist.errors import IrmasError

AUDIO_SUFFIXES = frozenset(
    {".aac", ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac"}
    | {".m4a", ".mp3", ".ogg", ".opus", ".w64", ".wav", ".wma"}
)
"""Files that get a row; for those that libsndfile cannot decode it says so."""


@dataclass(frozen=True)
class TreeFile:
    """A file of the tree that may get a row.

    Attributes:
        path: Path or URL of the audio file; none for a label file that has no audio beside it.
        labels: Path or URL of the label file; none when there is none.
        clip_id: Path in the tree without suffix, Unicode NFC.
        folder: Name of the folder that it lies in, Unicode NFC.
    """

    path: str | None
    labels: str | None
    clip_id: str
    folder: str


def find_sources(tree: str | Path) -> list[TreeFile]:
    """List the audio files of a tree, and the text files without audio of their name.

    Links to files and folders are followed; what is hidden is left out.

    Args:
        tree: A directory, or the URL of one in an object store.

    Raises:
        IrmasError: There is no such directory, no audio file in it, or a folder in it may not
            be read.
    """
    root = storage.absolute(tree).rstrip("/")
    sources = [source for found in _listed(tree) for source in _sources(root, *found)]
    if not any(source.path for source in sources):
        raise IrmasError(f"{tree} holds no audio files; expected folders such as cel/ with WAVs")
    return sources


def audio_in(folder: str | Path) -> list[str]:
    """Return the audio files of a folder and of those in it, by their paths relative to it.

    Links are followed, and what is hidden is left out, as in `find_sources`.

    Args:
        folder: A directory, or the URL of one in an object store.

    Raises:
        IrmasError: There is no such directory, or a folder in it may not be read.
    """
    return [
        str(place / name)
        for place, names in _listed(folder)
        for name in sorted(names)
        if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
    ]


def as_text(name: str) -> str:
    """Return a name on disk as text that can be stored; bytes that are not UTF-8 become ``?``."""
    return name.encode("utf-8", "replace").decode()


def _listed(tree: str | Path) -> list[tuple[PurePath, set[str]]]:
    """List the folders of a tree, relative to it, with the names of the files in them."""
    root = storage.absolute(tree)
    try:
        if storage.is_url(root):
            return list(_stored_folders(root))
        if Path(root).is_dir():
            return [(place.relative_to(root), names) for place, names in _folders(Path(root))]
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else f"{tree}: {error}"
        raise IrmasError(where) from error
    raise IrmasError(f"{tree}: no such directory")


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


def _stored_folders(url: str) -> Iterator[tuple[PurePosixPath, set[str]]]:
    """Yield the folders of an object store, relative to the URL, with the names of their files."""
    folders: dict[PurePosixPath, set[str]] = defaultdict(set)
    for file in storage.list_files(url, recursive=True):
        path = PurePosixPath(file)
        if not any(part.startswith(".") for part in path.parts):
            folders[path.parent].add(path.name)
    yield from sorted(folders.items())


def _sources(root: str, place: PurePath, names: set[str]) -> Iterator[TreeFile]:
    """Yield the files of one folder that may get a row, in order of their names.

    Args:
        root: Path or URL of the tree.
        place: The folder, relative to it.
        names: The files in it.
    """
    # Beginning with a dot: hidden, such as what macOS leaves beside real files.
    paths = [Path(name) for name in sorted(names) if not name.startswith(".")]
    audio = [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
    texts = {_composed(path.stem): path for path in paths if path.suffix.lower() == ".txt"}
    folder = storage.join(root, *place.parts)
    within = _composed(PurePosixPath(folder).name)
    for path in audio:
        own = path.with_suffix(".txt")
        # Copying can compose the one name and leave the other decomposed.
        labels = own if own.name in names else texts.get(_composed(path.stem))
        yield TreeFile(
            path=storage.join(folder, str(path)),
            labels=storage.join(folder, str(labels)) if labels else None,
            clip_id=_composed((place / path.stem).as_posix()),
            folder=within,
        )
    for stem in sorted(texts.keys() - {_composed(path.stem) for path in audio}):
        clip_id = _composed((place / stem).as_posix())
        alone = storage.join(folder, str(texts[stem]))
        yield TreeFile(path=None, labels=alone, clip_id=clip_id, folder=within)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", as_text(name))

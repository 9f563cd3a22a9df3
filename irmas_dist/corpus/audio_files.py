"""The audio files of a tree, each with the label file that belongs to it."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from irmas_dist import storage
from irmas_dist.errors import IrmasError

AUDIO_SUFFIXES = frozenset(
    {".aac", ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac"}
    | {".m4a", ".mp3", ".ogg", ".opus", ".w64", ".wav", ".wma"}
)
"""Files that get a row in the manifest; libsndfile reports those that it cannot decode."""


@dataclass(frozen=True)
class TreeFile:
    """An audio file of a tree, or a label file without audio."""

    path: str | None  # path or URL of the audio file
    labels: str | None  # path or URL of the label file
    clip_id: str  # path in the tree without suffix, Unicode NFC
    folder: str  # name of the folder that holds it, Unicode NFC


def find_files(tree: str | Path, codes: Collection[str] = ()) -> list[TreeFile]:
    """List the audio files of a tree, and the text files that belong to none of them.

    Links to files and folders are followed, each folder once; hidden ones are left out.

    Args:
        tree: A directory, or the URL of one in an object store.
        codes: Codes of instruments; a link named by one goes before other paths of its folder.

    Raises:
        IrmasError: The directory is missing, holds no audio file, or has a folder that cannot
            be read.
    """
    root = storage.absolute(tree).rstrip("/")
    files = [
        file for folder, names in _folders(tree, codes) for file in _files(root, folder, names)
    ]
    if not any(file.path for file in files):
        folder = next(iter(codes), "music")
        raise IrmasError(
            f"{tree} holds no audio files; expected folders such as {folder}/ with WAVs"
        )
    return files


def audio_in(folder: str | Path) -> list[str]:
    """Return the paths of all audio files below a folder, relative to it, as `find_files`.

    Raises:
        IrmasError: The directory is missing, or has a folder that cannot be read.
    """
    return [
        str(within / name)
        for within, names in _folders(folder)
        for name in sorted(names)
        if Path(name).suffix.lower() in AUDIO_SUFFIXES
    ]


def _folders(tree: str | Path, codes: Collection[str] = ()) -> list[tuple[PurePath, set[str]]]:
    """List the folders of a tree, relative to it, with the names of their files; none hidden."""
    root = storage.absolute(tree)
    try:
        if storage.is_url(root):
            return _stored_folders(root)
        if Path(root).is_dir():
            return [(path.relative_to(root), names) for path, names in _walk(Path(root), codes)]
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else f"{tree}: {error}"
        raise IrmasError(where) from error
    if Path(root).exists():
        raise IrmasError(f"{tree} is a file: name the directory that holds it")
    raise IrmasError(f"{tree}: no such directory")


def _walk(tree: Path, codes: Collection[str]) -> list[tuple[Path, set[str]]]:
    """List a folder and those below it with the names of their files, following links.

    A folder with several paths is listed by one: by a link named for an instrument, else its own
    in the tree, else that of the first link.
    """
    found: dict[tuple[Path, str], tuple[Path, set[str]]] = {}
    links = [tree]
    for link in links:
        below = [link]
        while below:
            folder = below.pop()
            key = folder.resolve(), folder.name if folder.name in codes else ""
            if key in found:
                continue
            with os.scandir(folder) as content:
                # Hidden: what macOS leaves beside real files, an archive being extracted, a trash
                # folder.
                visible = [entry for entry in content if not entry.name.startswith(".")]
            folders = [entry for entry in visible if _is_folder(entry)]
            found[key] = folder, {entry.name for entry in visible} - {one.name for one in folders}
            for entry in sorted(folders, key=lambda entry: entry.name):
                (links if entry.is_symlink() else below).append(folder / entry.name)
    named = {real for real, code in found if code}
    return sorted(listed for (real, code), listed in found.items() if code or real not in named)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself, which cannot be read as a file either
        return False


def _stored_folders(url: str) -> list[tuple[PurePath, set[str]]]:
    """List the folders below a URL of an object store."""
    folders: dict[PurePath, set[str]] = defaultdict(set)
    for file in storage.list_files(url, recursive=True):
        path = PurePosixPath(file)
        if not any(part.startswith(".") for part in path.parts):
            folders[path.parent].add(path.name)
    return sorted(folders.items())


def clip_id_of(path: str) -> str:
    """Return how a manifest names a file: its path without an audio suffix, in Unicode NFC."""
    name = _composed(path.strip()).removeprefix("./")
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in AUDIO_SUFFIXES else name


def _files(root: str, within: PurePath, names: set[str]) -> Iterator[TreeFile]:
    """Yield the audio files of a folder ``within`` the tree by name, then its other text files."""
    paths = [Path(name) for name in sorted(names)]
    audio = [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
    texts = {_composed(path.stem): path for path in paths if path.suffix.lower() == ".txt"}
    folder = storage.join(root, *within.parts)

    def tree_file(stem: str, path: Path | None, labels: Path | None) -> TreeFile:
        return TreeFile(
            path=storage.join(folder, str(path)) if path else None,
            labels=storage.join(folder, str(labels)) if labels else None,
            clip_id=_composed((within / stem).as_posix()),
            folder=_composed(PurePosixPath(folder).name),
        )

    for path in audio:
        own = path.with_suffix(".txt")
        # Copying can compose the Unicode of one name and not of the other.
        labels = own if own.name in names else texts.get(_composed(path.stem))
        yield tree_file(path.stem, path, labels)
    for stem in sorted(texts.keys() - {_composed(path.stem) for path in audio}):
        yield tree_file(stem, None, texts[stem])


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", storage.as_text(name))

"""Reading trees in IRMAS's shape: a folder per instrument, or a label file beside each WAV."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, Vocabulary
from irmas_dist.terminal import progress

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff"})

_TRAINING_NAME = re.compile(r"^(?:\d+__)?(?P<tags>(?:\[[^\]]*\])+)(?P<recording>\d+)__\d+$")
_TESTING_NAME = re.compile(r"^(?P<song>.+)-\d+$")


@dataclass(frozen=True)
class ClipName:
    """What the name of an IRMAS training file says.

    Attributes:
        instrument: Code in the first pair of brackets; later ones may read the same and
            mean the genre (``[cla]`` is clarinet there, classical here).
        recording: Identity of the recording that the clip was cut from.
    """

    instrument: str
    recording: str


def parse_training_name(stem: str) -> ClipName | None:
    """Parse a training file's name without suffix; None when it is not of IRMAS's form."""
    match = _TRAINING_NAME.match(stem)
    if match is None:
        return None
    tags = re.findall(r"\[([^\]]*)\]", match["tags"])
    return ClipName(instrument=tags[0], recording=match["recording"])


def song_of(stem: str) -> str:
    """Return the song of a test excerpt: its name less the number at its end."""
    match = _TESTING_NAME.match(stem)
    return match["song"] if match else stem


def read_labels(text: str) -> list[str]:
    """Parse a label file: one code a line, whatever white space is around it."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def index_tree(tree: Path, vocabulary: Vocabulary = IRMAS) -> list[dict[str, Any]]:
    """Read every audio file under ``tree`` into rows of a manifest.

    A file in a folder that is named like an instrument is a training clip of it; a file with a
    text file of the same name beside it is a test excerpt with the labels in there. Files that
    cannot be used have a row that says why.

    Args:
        tree: An IRMAS tree, whole or in part.
        vocabulary: The instruments that labels may name.

    Raises:
        IrmasError: There is no such directory, or no audio file in it.
    """
    if not tree.is_dir():
        raise IrmasError(f"{tree}: no such directory")
    files = sorted(path for path in _walk(tree) if path.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise IrmasError(f"{tree} holds no audio files; expected folders such as cel/ with WAVs")
    rows: list[dict[str, Any]] = []
    with progress("index", len(files), "files") as advance, ThreadPoolExecutor() as pool:
        for row in pool.map(lambda path: _row(path, tree, vocabulary), files):
            rows.append(row)
            advance(1)
    _join_identical(rows)
    return rows


def _walk(tree: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(tree):
        # A hidden folder is not the tree's: an archive that is being extracted, a trash.
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("._"):  # what macOS leaves beside real files
                yield Path(folder, name)


def _row(path: Path, tree: Path, vocabulary: Vocabulary) -> dict[str, Any]:
    stem = unicodedata.normalize("NFC", path.stem)
    relative = unicodedata.normalize("NFC", path.relative_to(tree).with_suffix("").as_posix())
    row: dict[str, Any] = {
        "clip_id": relative,
        "path": str(path.absolute()),
        "instruments": [],
        "problem": None,
    }
    labels = path.with_suffix(".txt")
    if path.parent.name in vocabulary:
        row["part"] = TRAINING
        row["instruments"] = [path.parent.name]
        name = parse_training_name(stem)
        row["group"] = f"recording {name.recording}" if name else f"file {relative}"
        if name and name.instrument != path.parent.name:
            row["problem"] = (
                f"lies in the folder of {path.parent.name} but is named {name.instrument}"
            )
    else:
        row["part"] = TESTING
        row["group"] = f"song {song_of(stem)}"
        if labels.is_file():
            row["instruments"] = read_labels(labels.read_text(encoding="utf-8", errors="replace"))
            unknown = [code for code in row["instruments"] if code not in vocabulary]
            if unknown:
                row["problem"] = f"unknown instrument {unknown[0]!r} in its label file"
            elif not row["instruments"]:
                row["problem"] = "its label file is empty"
        else:
            row["problem"] = "no label file beside it, and its folder is no instrument's"
    row |= _measure(path)
    if error := row.pop("unreadable", None):
        row["problem"] = row["problem"] or error
    return row


def _measure(path: Path) -> dict[str, Any]:
    """Return what the file itself tells: sizes, digest, and ``unreadable`` when it is."""
    facts: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            facts["md5"] = hashlib.file_digest(file, "md5").hexdigest()
            facts["bytes"] = file.tell()
        info = soundfile.info(str(path))
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "error_string", None) or str(error)
        return facts | {"unreadable": f"cannot be read as audio: {reason}"}
    facts |= {
        "duration_s": info.frames / info.samplerate,
        "sample_rate": info.samplerate,
        "channels": info.channels,
    }
    if info.frames == 0:
        facts["unreadable"] = "holds no samples"
    return facts


def _join_identical(rows: list[dict[str, Any]]) -> None:
    """Put byte-identical files, and with them their whole groups, on one side of any split."""
    parent = {row["group"]: row["group"] for row in rows}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row["clip_id"]):
        if row.get("md5"):
            other = first.setdefault(row["md5"], row["group"])
            low, high = sorted((root(row["group"]), root(other)))
            parent[high] = low
    for row in rows:
        row["group"] = root(row["group"])

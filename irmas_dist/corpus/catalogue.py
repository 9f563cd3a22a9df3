"""The catalogue of IRMAS: every file of the data set, and how to render a twin of it.

A catalogue is two tables: ``training.csv`` with the columns ``path`` and ``md5``, and
``testing.csv`` with ``path``, ``md5`` and ``instruments`` (``gac|voi``). That of the real data
set comes with the package. It says which files are identical, and so which recordings are:
under 2,261 recording IDs in training there are 2,242 recordings.
"""

import csv
import io
import lzma
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from irmas_dist import storage
from irmas_dist.corpus.groups import join_identical
from irmas_dist.corpus.manifest import TESTING, TRAINING
from irmas_dist.corpus.names import parse_training_name, recording_of, song_of
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS
from irmas_dist.rendering.performance import GROOVES
from irmas_dist.rendering.recordings import (
    EXCERPT_S,
    GENRES,
    TRAINING_CLIP_S,
    Clip,
    Recording,
    generator,
)

COLUMNS = {TRAINING: ("path", "md5"), TESTING: ("path", "md5", "instruments")}
"""The columns that the table of each part must have."""

DRUMS_SHARE = {
    "pop_roc": 417 / 477,
    "jaz_blu": 215 / 281,
    "cla": 3 / 603,
    "cou_fol": 218 / 479,
    "lat_sou": 39 / 42,
}
"""Share of IRMAS's training clips with drums, by genre, where their names say."""

_SHIPPED = Path(__file__).parent / "irmas_catalogue"


@dataclass(frozen=True)
class CatalogueEntry:
    """A file of the data set.

    Attributes:
        path: Where, relative to the root of the tree; Unicode NFD, as IRMAS lies on disk.
        md5: Digest of the real file, None when it is not known. Files that share one are
            identical.
        part: ``training`` or ``testing``.
        instruments: Codes of its labels, at least one: for training, that of its folder.
    """

    path: str
    md5: str | None
    part: str
    instruments: tuple[str, ...]


def read_catalogue(directory: Path | None = None) -> list[CatalogueEntry]:
    """Read a catalogue and check that it can be rendered.

    Args:
        directory: Holds ``training.csv`` and ``testing.csv``; None for the catalogue of the
            real data set, 6,705 and 2,874 files, that comes with the package.

    Raises:
        IrmasError: A table is missing or not CSV in UTF-8, or has no such column; a path is not
            that of a WAV file below the root, or comes twice; an instrument is not of IRMAS; a
            training and a testing file are identical; or there are no files at all.
    """
    entries = [*_read_part(directory, TRAINING), *_read_part(directory, TESTING)]
    if not entries:
        raise IrmasError(f"{directory}: its training.csv and testing.csv list no files")
    paths: set[str] = set()
    parts: dict[str, str] = {}
    for entry in entries:
        if entry.path in paths:
            raise IrmasError(f"{directory}: lists {entry.path!r} more than once")
        paths.add(entry.path)
        if entry.md5 and parts.setdefault(entry.md5, entry.part) != entry.part:
            raise IrmasError(
                f"{directory}: lists the same md5 for {entry.path!r} and for a training file; "
                "they cannot be identical, for their lengths differ"
            )
    return entries


def plan_twin(
    entries: Sequence[CatalogueEntry], fraction: float = 1.0, seed: int = 0
) -> list[Recording]:
    """Return the recordings of a twin of IRMAS: its files, of other music.

    One recording holds the clips of one recording ID, or the excerpts of one test song.
    Recordings that share an identical file are the same one under several names, and planned
    as one. Identical files have every instrument that any of their labels names. What a
    recording sounds like depends on its own files and the seed alone, so a fraction has the
    very files of the whole, and a smaller fraction those of a larger one.

    Genre and drums are what the names say; ``[dru]`` counts when names disagree. Where they say
    nothing, both are drawn as they are distributed in IRMAS's training clips.

    Args:
        entries: The files, from `read_catalogue`.
        fraction: Share of the recordings of each instrument, and of the test songs, that is
            taken, from 0 to 1; at least one of each.
        seed: Seed of every choice.
    """
    recordings = _join(entries)
    strata: dict[str, list[str]] = defaultdict(list)
    for key in sorted(recordings, key=lambda key: generator(seed, "fraction", key).random()):
        for stratum in {
            entry.instruments[0] if entry.part == TRAINING else TESTING for entry in recordings[key]
        }:
            strata[stratum].append(key)
    taken = {key for keys in strata.values() for key in keys[: max(1, round(fraction * len(keys)))]}
    return [_recording(key, recordings[key], seed) for key in sorted(taken)]


def _read_part(directory: Path | None, part: str) -> list[CatalogueEntry]:
    if directory is None:
        file = _SHIPPED / f"{part}.csv.xz"
        data = lzma.decompress(storage.read_bytes(file))
    else:
        file = directory / f"{part}.csv"
        data = storage.read_bytes(file)
    try:
        # What spreadsheets save as UTF-8 begins with a byte order mark.
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        columns = reader.fieldnames or ()
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise IrmasError(f"{file} is not CSV in UTF-8: {error}") from error
    for column in COLUMNS[part]:
        if column not in columns:
            needed = ", ".join(COLUMNS[part])
            raise IrmasError(f"{file} has no column {column!r}; it needs {needed}")
    return [_entry(row, part, f"{file}, line {line}") for line, row in rows]


def _entry(row: Mapping[str, str | None], part: str, where: str) -> CatalogueEntry:
    """Check a row of a table and make an entry of it; a short row lacks its last values."""
    name = unicodedata.normalize("NFD", row["path"] or "")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".wav":
        raise IrmasError(f"{where}: {name!r} is not the path of a .wav file below the tree's root")
    codes = [path.parent.name] if part == TRAINING else (row["instruments"] or "").split("|")
    for code in codes:
        if code not in IRMAS:
            raise IrmasError(
                f"{where}: unknown instrument {code!r} of {name!r}; "
                f"IRMAS has {', '.join(IRMAS.codes)}"
            )
    return CatalogueEntry(str(path), row["md5"] or None, part, tuple(codes))


def _join(entries: Sequence[CatalogueEntry]) -> dict[str, list[CatalogueEntry]]:
    """Return the files of each recording, in order of path, under the first of its names."""
    rows: list[dict[str, Any]] = [
        {"clip_id": entry.path, "group": _recording_name(entry), "md5": entry.md5, "problem": None}
        for entry in entries
    ]
    join_identical(rows)
    recordings: dict[str, list[CatalogueEntry]] = defaultdict(list)
    for entry, row in sorted(zip(entries, rows, strict=True), key=lambda pair: pair[0].path):
        recordings[row["group"]].append(entry)
    return recordings


def _recording_name(entry: CatalogueEntry) -> str:
    stem = _stem(entry)
    if entry.part == TESTING:
        return f"{TESTING}/{song_of(stem)}"
    return f"{TRAINING}/{recording_of(stem) or stem}"


def _recording(key: str, entries: Sequence[CatalogueEntry], seed: int) -> Recording:
    rng = generator(seed, key)
    training = entries[0].part == TRAINING
    names = [name for entry in entries if training and (name := parse_training_name(_stem(entry)))]
    shares = [count / sum(GENRES.values()) for count in GENRES.values()]
    drawn = str(rng.choice(list(GENRES), p=shares))
    genre = next((name.genre for name in names if name.genre in GENRES), drawn)
    drums = bool(rng.random() < DRUMS_SHARE[genre])
    if said := {name.drums for name in names} - {None}:
        drums = True in said
    if drums and genre not in GROOVES:
        genre = "pop_roc"  # three classical clips of IRMAS have drums: there is no groove for them
    passages: dict[str, int] = {}
    durations: list[float] = []
    clips = []
    for entry in entries:
        passage = passages.setdefault(entry.md5 or entry.path, len(passages))
        if passage == len(durations):
            durations.append(TRAINING_CLIP_S if training else round(rng.uniform(*EXCERPT_S), 1))
        clips.append(Clip(entry.path, entry.instruments, durations[passage], passage))
    return Recording(key, tuple(clips), drums, genre, label_files=not training)


def _stem(entry: CatalogueEntry) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(entry.path).stem)

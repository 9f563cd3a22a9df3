"""The tables of OpenMIC-2018: which instruments are known to play, the parts, and the artists.

A label is present from a relevance of 0.5 on and absent below; nobody says anything of an
instrument without a row. The data set states some labels twice; the last row counts, as in the
arrays that come with it. Clips of one artist share a group, since its own partition keeps them
together; without the table of artists, each clip is a group.
"""

import re
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from irmas_dist import storage
from irmas_dist.corpus.csv_tables import CsvRow, parse_number, read_csv
from irmas_dist.corpus.facts import AudioFacts
from irmas_dist.corpus.manifest import TRAINING
from irmas_dist.corpus.openmic import FOLDER, LABELS, METADATA, OPENMIC, PARTITIONS, clip_path
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import PRESENT, Vocabulary
from irmas_dist.terminal import say

KEY = re.compile(r"[0-9]{6}_[0-9]+")
"""A sample key: number of the recording, and start of the clip in it in milliseconds."""

Clip = dict[str, Any]


@dataclass(frozen=True)
class OpenMicLabels:
    """What the tables say of each clip.

    Attributes:
        folder: Path or URL of the data set's folder.
        prefix: What the ids of all its clips begin with.
        clips: By id, columns of the manifest: ``clip_id``, ``part``, ``instruments``, ``unknown``,
            ``group`` and ``problem``.
    """

    folder: str
    prefix: str
    clips: dict[str, Clip]

    def of(self, clip_id: str) -> Clip | None:
        """Return the columns of an audio file; None for one that is not of this data set."""
        if clip_id in self.clips:
            return self.clips[clip_id]
        if not clip_id.startswith(f"{self.prefix}audio/"):
            return None
        return _clip(clip_id, TRAINING, [], [], f"file {clip_id}", f"no row in {LABELS}")

    def without_audio(self, found: Set[str]) -> list[dict[str, Any]]:
        """Return rows of the manifest for labelled clips whose audio is not ``found``."""
        facts = vars(AudioFacts())
        return [
            facts
            | clip
            | {
                "path": storage.join(self.folder, clip_path(PurePosixPath(clip_id).name)),
                "problem": clip["problem"] or "labels without audio",
            }
            for clip_id, clip in self.clips.items()
            if clip_id not in found
        ]


def find_openmic(tree: str | Path, vocabulary: Vocabulary) -> OpenMicLabels | None:
    """Read the tables of OpenMIC-2018 in a tree: the data set's folder, or one that holds it.

    Returns:
        What is known; None if the tree is not OpenMIC-2018.

    Raises:
        IrmasError: A table is missing or wrong, with file, line and column, or the vocabulary has
            none of the data set's instruments.
    """
    root = storage.absolute(tree).rstrip("/")
    for prefix in ("", f"{FOLDER}/"):
        folder = storage.join(root, prefix.rstrip("/")) if prefix else root
        if storage.exists(storage.join(folder, LABELS)):
            return OpenMicLabels(folder, prefix, _read(folder, prefix, vocabulary))
        if storage.exists(storage.join(folder, PARTITIONS[TRAINING])) or (
            prefix and storage.exists(storage.join(folder, "audio"))
        ):
            raise IrmasError(f"{folder} is OpenMIC-2018, and lacks {LABELS}: is it still written?")
    return None


def _read(folder: str, prefix: str, vocabulary: Vocabulary) -> dict[str, Clip]:
    if not set(vocabulary.codes) & set(OPENMIC.codes):
        raise IrmasError(
            f"{folder} is OpenMIC-2018 and none of its instruments is in the vocabulary "
            f"({', '.join(vocabulary.codes)}); the recipe 'openmic' has them, "
            "and a model of others is evaluated on features, with 'evaluate --features … --map'"
        )
    labels = _labels(storage.join(folder, LABELS))
    parts = _parts(folder)
    artists = _artists(storage.join(folder, METADATA))
    clips = {}
    for key in dict.fromkeys([*labels, *parts]):
        known = labels.get(key, {})
        problem = None
        if not known:
            problem = f"no row in {LABELS}"
        elif key not in parts:
            problem = f"in none of {', '.join(PARTITIONS.values())}"
        clip_id = prefix + str(PurePosixPath(clip_path(key)).with_suffix(""))
        clips[clip_id] = _clip(
            clip_id,
            parts.get(key, TRAINING),
            [code for code in vocabulary.codes if known.get(code, False)],
            [code for code in vocabulary.codes if code not in known],
            f"artist {artists[key]}" if artists.get(key) else f"recording {key.partition('_')[0]}",
            problem,
        )
    return clips


def _clip(
    clip_id: str,
    part: str,
    instruments: list[str],
    unknown: list[str],
    group: str,
    problem: str | None,
) -> Clip:
    return {
        "clip_id": clip_id,
        "part": part,
        "instruments": instruments,
        "unknown": unknown,
        "group": group,
        "problem": problem,
    }


def _labels(table: str) -> dict[str, dict[str, bool]]:
    """Return by key of the clip, and by code, whether an instrument plays."""
    labels: dict[str, dict[str, bool]] = {}
    repeated = 0
    needed = ("sample_key", "instrument", "relevance")
    for row in read_csv(storage.read_bytes(table), table, needed).rows:
        key, code, relevance = (row.values[column] for column in needed)
        if not KEY.fullmatch(key):
            raise _wrong(row, "sample_key", "no key such as 000046_3840")
        if code not in OPENMIC:
            raise _wrong(row, "instrument", f"none of {', '.join(OPENMIC.codes)}")
        try:
            value = parse_number(relevance)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise _wrong(row, "relevance", "no number from 0 to 1")
        repeated += code in labels.setdefault(key, {})
        labels[key][code] = value >= PRESENT
    if repeated:
        say(f"{table}: {repeated:,} labels are stated again further down; the last counts")
    return labels


def _wrong(row: CsvRow, column: str, expected: str) -> IrmasError:
    return IrmasError(f"{row.where}, column {column!r}: {row.values[column]!r} is {expected}")


def _parts(folder: str) -> dict[str, str]:
    """Return the part of each clip by its key."""
    parts: dict[str, str] = {}
    lines: dict[str, str] = {}
    for part, name in PARTITIONS.items():
        table = storage.join(folder, name)
        text = storage.read_bytes(table).decode("utf-8-sig", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            key, where = line.strip(), f"{table}, line {number}"
            if not key:
                continue
            if not KEY.fullmatch(key):
                raise IrmasError(f"{where}: {key!r} is no key such as 000046_3840")
            if key in parts:
                raise IrmasError(f"{where}: {key!r} is in {lines[key]} too")
            parts[key], lines[key] = part, where
    return parts


def _artists(table: str) -> dict[str, str]:
    """Return the artist of each clip by its key, as far as there is a table of them."""
    if not storage.exists(table):
        return {}
    rows = read_csv(storage.read_bytes(table), table, ("sample_key", "artist_id")).rows
    return {row.values["sample_key"]: row.values["artist_id"] for row in rows}

"""What is known of clips that scores are of: labels, part and group, by path.

They are those of a table of clips (`label_columns`), which may name their ``part``, ``group`` and
``source``, of a manifest, or of IRMAS itself, which come with the package.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from irmas_dist.config.corpus import TABLE_COLUMNS
from irmas_dist.corpus.audio import WHOLE
from irmas_dist.corpus.audio_files import clip_id_of
from irmas_dist.corpus.catalogue import read_catalogue
from irmas_dist.corpus.clip_rows import parse_seconds, part_of
from irmas_dist.corpus.clip_table import is_manifest, name_ignored
from irmas_dist.corpus.csv_tables import CsvRow
from irmas_dist.corpus.groups import group_in_source
from irmas_dist.corpus.index import parse_clip
from irmas_dist.corpus.label_columns import LabelColumns, read_clip_table
from irmas_dist.corpus.manifest import PARTS, read_manifest, require_indexed
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import IRMAS, PRESENT, UNKNOWN, Vocabulary

A_SPAN = "scores are of whole files, and this is a span of one; leave spans out"


@dataclass(frozen=True)
class LabelledClip:
    """What is known of a clip.

    Attributes:
        labels: 0, 1 or `UNKNOWN`, shape (instruments,).
        part: Its part.
        group: Clips of one group are not independent.
    """

    labels: npt.NDArray[np.int8]
    part: str
    group: str


def irmas_labels() -> dict[str, LabelledClip]:
    """Return IRMAS's clips by id."""
    return {
        clip_id: _named(clip_id, IRMAS.encode(entry.instruments), IRMAS)
        for entry in read_catalogue()
        for clip_id in [clip_id_of(entry.path)]
    }


def read_clip_labels(location: str, vocabulary: Vocabulary) -> dict[str, LabelledClip]:
    """Return what a table of clips or a manifest says of each; names tell of what it does not.

    Raises:
        IrmasError: It cannot be read, a value is none that its column may have, a column may be
            misspelt, or a clip is listed twice or is a span of a file.
    """
    content = read_clip_table(location, ("path",))
    if is_manifest(content):
        return _of_manifest(location, vocabulary)
    columns = LabelColumns.of(content, location, vocabulary)
    called = {name: name for name in (*TABLE_COLUMNS, *vocabulary.codes)}
    name_ignored(called, {}, content, location)
    known: dict[str, LabelledClip] = {}
    for clip_id, row in by_clip(columns.table.rows):
        part, group, source = (
            row.values.get(name, "").strip() for name in ("part", "group", "source")
        )
        stated = part_of(part) if part else ""
        if stated is None:
            raise IrmasError(f"{row.where}, column 'part': {part!r} is none of {', '.join(PARTS)}")
        start, end = (parse_seconds(row.values.get(name, "")) for name in ("start", "end"))
        if (start or 0.0, end) != WHOLE:
            raise IrmasError(f"{row.where}: {A_SPAN}")
        labels = columns.labels(row, soft=True)
        encoded = np.array(
            [UNKNOWN if (label := labels.get(code, 0.0)) is None else label >= PRESENT
             for code in vocabulary.codes], np.int8,
        )  # fmt: skip
        named = _named(clip_id, encoded, vocabulary)
        group = group_in_source(f"group {group}" if group else named.group, source)
        known[clip_id] = LabelledClip(encoded, stated or named.part, group)
    return known


def _named(clip_id: str, labels: npt.NDArray[np.int8], vocabulary: Vocabulary) -> LabelledClip:
    """Return a clip in the part and group that its path says."""
    row = parse_clip(clip_id, PurePosixPath(clip_id).parent.name, None, vocabulary)
    return LabelledClip(labels, row["part"], row["group"])


def _of_manifest(location: str, vocabulary: Vocabulary) -> dict[str, LabelledClip]:
    """Return what a manifest says of its usable clips."""
    table = read_manifest(location)
    require_indexed(table, vocabulary, location)
    known: dict[str, LabelledClip] = {}
    for row in table.to_pylist():
        if row["problem"]:
            continue
        if (row["start_s"] or 0.0, row["end_s"]) != WHOLE:
            raise IrmasError(f"{location}, {row['clip_id']!r}: {A_SPAN}")
        labels = vocabulary.encode(code for code in row["instruments"] if code in vocabulary)
        unknown = [code in row["unknown"] for code in vocabulary.codes]
        encoded = np.where(unknown, np.int8(UNKNOWN), labels.astype(np.int8))
        known[row["clip_id"]] = LabelledClip(encoded, row["part"], row["group"])
    return known


def by_clip(rows: list[CsvRow]) -> Iterator[tuple[str, CsvRow]]:
    """Yield the clip of each row with it; refuse a clip that is listed twice."""
    listed: set[str] = set()
    for row in rows:
        # Which of two tables was written on Windows does not matter.
        clip_id = clip_id_of(row.values["path"].replace("\\", "/"))
        if clip_id in listed:
            raise IrmasError(f"{row.where}: {clip_id!r} is listed twice")
        listed.add(clip_id)
        yield clip_id, row

"""Scores of any model, from CSV: a column ``path`` and one for each instrument.

Labels are another CSV of ``path`` and ``instruments`` (``gac|voi``), or, where none is given,
those of IRMAS itself, which come with the package. Paths are relative to the root of the tree;
their suffix and Unicode form do not matter, since IRMAS's own archives and copies of them
disagree about the latter.
"""

import csv
import io
import unicodedata
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from irmas_dist import storage
from irmas_dist.corpus.audio_files import AUDIO_SUFFIXES
from irmas_dist.corpus.catalogue import read_catalogue
from irmas_dist.corpus.index import parse_clip
from irmas_dist.corpus.manifest import TESTING
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import Scores, read_scores
from irmas_dist.instruments import IRMAS, Vocabulary


def open_scores(location: str, labels: str | None = None, vocabulary: Vocabulary = IRMAS) -> Scores:
    """Read a scores table, or a CSV of scores together with its labels.

    Args:
        location: A scores table, or CSV of ``path`` and a column for each instrument, from 0 to 1.
        labels: For CSV: CSV of ``path`` and ``instruments``, or None for those of IRMAS.
        vocabulary: The instruments of CSV.

    Raises:
        IrmasError: It is no scores table, see `read_scores`; or a CSV has an unknown instrument or
            lacks one, contains a score that is not a number from 0 to 1, lists a path twice, or
            the two do not list the same paths.
    """
    if not location.lower().endswith(".csv"):
        if labels is not None:
            raise IrmasError(f"{location} is not CSV and has labels of its own; leave out --labels")
        return read_scores(location)
    values = _read_scores(location, vocabulary)
    known = _irmas_labels(values, vocabulary) if labels is None else _read_labels(labels)
    where = labels or "IRMAS"
    for clip_id in values:
        if clip_id not in known:
            example = next(iter(known), "none")
            raise IrmasError(
                f"{location}: {clip_id!r} is not in {where}, which has paths such as {example!r}"
            )
    missing = [clip_id for clip_id in known if clip_id not in values]
    if missing:
        raise IrmasError(
            f"{location} has no scores for {len(missing):,} of the {len(known):,} clips of "
            f"{where}, such as {missing[0]!r}"
        )
    try:
        encoded = [vocabulary.encode(known[clip_id]) for clip_id in values]
    except IrmasError as error:
        raise IrmasError(f"{where}: {error}") from error
    rows = [
        parse_clip(clip_id, PurePosixPath(clip_id).parent.name, None, vocabulary)
        for clip_id in values
    ]
    return Scores(
        clip_ids=list(values),
        parts=[row["part"] for row in rows],
        groups=[row["group"] for row in rows],
        labels=np.stack(encoded),
        scores=np.array(list(values.values()), np.float32),
        vocabulary=vocabulary,
    )


def _read_scores(location: str, vocabulary: Vocabulary) -> dict[str, list[float]]:
    """Return the scores of each clip, in the order of the vocabulary."""
    values: dict[str, list[float]] = {}
    for line, clip_id, row in _rows(location, ("path", *vocabulary.codes), only=True):
        values[clip_id] = []
        for code in vocabulary.codes:
            try:
                score = float(row[code])
            except ValueError:
                score = np.nan
            if not 0 <= score <= 1:
                wrong = f"the score of {code} is {row[code]!r}"
                raise IrmasError(f"{line}: {wrong}, and must be a number from 0 to 1")
            values[clip_id].append(score)
    if not values:
        raise IrmasError(f"{location} contains no scores")
    return values


def _read_labels(location: str) -> dict[str, list[str]]:
    """Return the codes of each clip."""
    return {
        clip_id: [code.strip() for code in row["instruments"].split("|") if code.strip()]
        for _, clip_id, row in _rows(location, ("path", "instruments"), only=False)
    }


def _irmas_labels(values: dict[str, list[float]], vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Return IRMAS's labels of the part that the scores are of."""
    if vocabulary != IRMAS:
        raise IrmasError("these instruments are not IRMAS's; give the clips' labels with --labels")
    entries = {_clip_id(entry.path): entry for entry in read_catalogue()}
    first = entries.get(next(iter(values)))
    part = first.part if first else TESTING
    return {
        clip_id: list(entry.instruments) for clip_id, entry in entries.items() if entry.part == part
    }


def _clip_id(path: str) -> str:
    """Return a path in the tree as the manifest names clips: without suffix, Unicode NFC."""
    name = unicodedata.normalize("NFC", path.strip()).removeprefix("./")
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in AUDIO_SUFFIXES else name


def _rows(
    location: str, columns: tuple[str, ...], *, only: bool
) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the name of each line of a CSV, its clip and its values by column.

    ``columns`` are required; with ``only``, others are refused.
    """
    listed: set[str] = set()
    try:
        text = storage.read_bytes(location).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        found = reader.fieldnames or ()
        for column in columns:
            if column not in found:
                needed = ", ".join(columns)
                raise IrmasError(f"{location} has no column {column!r}; it needs {needed}")
        unknown = [column for column in found if column not in columns]
        if only and unknown:
            raise IrmasError(
                f"{location}: column {unknown[0]!r} is no instrument; "
                f"these are {', '.join(columns[1:])}"
            )
        for row in reader:
            line = f"{location}, line {reader.line_num}"
            if None in row or None in row.values():
                raise IrmasError(f"{line}: not as many values as columns")
            clip_id = _clip_id(row["path"])
            if clip_id in listed:
                raise IrmasError(f"{line}: {clip_id!r} is listed twice")
            listed.add(clip_id)
            yield line, clip_id, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise IrmasError(f"{location} is not CSV in UTF-8: {error}") from error

"""Scores of any model from CSV, JSON or Parquet: a row for each clip, by path and instrument.

These are tables with a column ``path`` and one for each instrument (CSV as `csv_tables` reads it),
and what ``irmas predict`` writes in all its formats. Labels are those of `clip_labels`. Paths are
relative to the root of the tree, or all begin with the same folders above it; their suffix and
Unicode form do not matter, since IRMAS's own archives and copies of them disagree about the latter.
"""

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from irmas_dist import storage
from irmas_dist.config.corpus import PREDICTION_COLUMNS
from irmas_dist.corpus.csv_tables import CsvRow, parse_number, read_csv
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.clip_labels import by_clip, irmas_labels, read_clip_labels
from irmas_dist.evaluation.scores import Scores, read_scores
from irmas_dist.instruments import IRMAS, Vocabulary

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".json": "json", ".parquet": "parquet"}
"""Formats by suffix; that of a file with another is known by its first bytes."""

T = TypeVar("T")


def has_labels(location: str) -> bool:
    """Return whether a file of scores is a scores table, which has labels of its own."""
    if _format(location) != "parquet":
        return False
    return "path" not in storage.read_schema(location).names


def open_scores(location: str, labels: str | None = None, vocabulary: Vocabulary = IRMAS) -> Scores:
    """Read a scores table, or scores by path together with their labels.

    Args:
        location: A scores table; or CSV, or predictions in CSV, JSON or Parquet.
        labels: For all but a scores table: a table of clips, see `label_columns`, or None for the
            labels of IRMAS.
        vocabulary: The instruments, for all but a scores table.

    Raises:
        IrmasError: It is no scores table, see `read_scores`; or a file has an unknown instrument
            or lacks one, contains a score that is not a number from 0 to 1 or the prediction of
            a file that could not be used, lists a path twice, or the two do not list the same
            paths of a part.
    """
    if has_labels(location):
        if labels is not None:
            raise IrmasError(f"{location} has labels of its own; leave out --labels")
        return read_scores(location)
    values, adapted_to = _read_scores(location, vocabulary)
    where = labels or "IRMAS"
    if labels is None:
        if vocabulary != IRMAS:
            raise IrmasError(
                "these instruments are not IRMAS's; give the clips' labels with --labels"
            )
        known = irmas_labels()
    else:
        known = read_clip_labels(labels, vocabulary)
    values = _below_tree(values, known)
    for clip_id in values:
        if clip_id not in known:
            example = next(iter(known), "none")
            raise IrmasError(
                f"{location}: {clip_id!r} is not in {where}, which has paths such as {example!r}"
                + ("" if labels else "; give the labels of other clips with --labels")
            )
    parts = {known[clip_id].part for clip_id in values}
    wanted = [clip_id for clip_id, clip in known.items() if clip.part in parts]
    missing = [clip_id for clip_id in wanted if clip_id not in values]
    if missing:
        raise IrmasError(
            f"{location} has no scores for {len(missing):,} of the {len(wanted):,} clips of "
            f"{where}, such as {missing[0]!r}"
        )
    clips = [known[clip_id] for clip_id in values]
    return Scores(
        clip_ids=list(values),
        parts=[clip.part for clip in clips],
        groups=[clip.group for clip in clips],
        labels=np.stack([clip.labels for clip in clips]),
        scores=np.array(list(values.values()), np.float32),
        vocabulary=vocabulary,
        adapted_to=adapted_to,
    )


def _read_scores(location: str, vocabulary: Vocabulary) -> tuple[dict[str, list[float]], str]:
    """Return the scores of each clip by instrument, and what their model was adapted to."""
    needed = ("path", *vocabulary.codes)
    columns, rows = _table(location)
    if not columns:
        raise IrmasError(f"{location} contains no scores")
    other = "; name the recipe of other instruments with --config" if vocabulary == IRMAS else ""
    failed = bool(rows) and all(row.values.get("error") for row in rows)
    if (missing := [column for column in needed if column not in columns]) and not failed:
        raise IrmasError(
            f"{location} has no column {missing[0]!r}; it needs {', '.join(needed)}{other}"
        )
    if unknown := [column for column in columns if column not in (*needed, *PREDICTION_COLUMNS)]:
        raise IrmasError(
            f"{location}: column {unknown[0]!r} is no instrument; "
            f"these are {', '.join(vocabulary.codes)}{other}"
        )
    values: dict[str, list[float]] = {}
    adapted_to: dict[str, None] = {}
    for clip_id, row in by_clip(rows):
        if to := row.values.get("adapted_to"):
            adapted_to[to] = None
        if problem := row.values.get("error"):
            raise IrmasError(f"{row.where}: {row.values['path']!r} has no scores: {problem}")
        values[clip_id] = []
        for code in vocabulary.codes:
            text = row.values[code]
            try:
                score = parse_number(text)
            except ValueError:
                score = np.nan
            if not 0 <= score <= 1:
                wrong = f"the score of {code} is {text!r}"
                raise IrmasError(f"{row.where}: {wrong}, and must be a number from 0 to 1")
            values[clip_id].append(score)
    if not values:
        raise IrmasError(f"{location} contains no scores")
    return values, ", ".join(adapted_to)


def _table(location: str) -> tuple[Collection[str], list[CsvRow]]:
    """Return the columns and rows of CSV, or of predictions in JSON or Parquet."""
    if (form := _format(location)) == "csv":
        table = read_csv(storage.read_bytes(location), location, ("path",))
        return table.columns, table.rows
    if form == "json":
        content = storage.read_json(location)
        found = content.get("predictions") if isinstance(content, dict) else None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise IrmasError(f"{location} has no predictions; write them with 'irmas predict'")
        for number, one in enumerate(found, start=1):
            if not isinstance(one.get("scores") or {}, dict) or not one.get("path"):
                raise IrmasError(
                    f"{location}, prediction {number}: needs a path, and scores by instrument"
                )
        rows = [{**one, **(one.get("scores") or {})} for one in found]
        for one in rows:
            one.pop("scores", None)
    else:
        rows = storage.read_table(location).to_pylist()
    columns = dict.fromkeys(column for row in rows for column in row)
    return columns, [
        CsvRow(
            f"{location}, prediction {number}",
            {name: "" if row.get(name) is None else str(row[name]) for name in columns},
        )
        for number, row in enumerate(rows, start=1)
    ]


def _below_tree(values: dict[str, T], known: Mapping[str, object]) -> dict[str, T]:
    """Leave out the folders above the tree, with which all paths begin, if there are any."""
    folders = next(iter(values)).split("/")
    for depth in range(len(folders)):
        if "/".join(folders[depth:]) in known:
            above = "".join(f"{folder}/" for folder in folders[:depth])
            if all(clip_id.startswith(above) for clip_id in values):
                return {clip_id.removeprefix(above): row for clip_id, row in values.items()}
    return values


def _format(location: str) -> str:
    suffix = PurePosixPath(location).suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    beginning = storage.read_bytes(location, 64)
    if beginning.startswith(b"PAR1"):
        return "parquet"
    return "json" if beginning.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "csv"

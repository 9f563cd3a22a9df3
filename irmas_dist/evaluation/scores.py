"""The scores table: the scores and labels of every clip.

Thresholds, metrics and reports need this file alone. It is Parquet with one row per
clip, readable with pyarrow or pandas: ``clip_id``, ``part``, ``group``, ``labels`` (per instrument
0, 1 or, where it is unknown, null) and ``scores`` (one number from 0 to 1 per instrument). The
instruments, in the order of both lists, are in the schema's metadata as a JSON object of code to
name; beside them ``scored_by`` says which model gave the scores, and ``notes`` what is to be known
of them.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import UNKNOWN, Vocabulary

SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.uint8()), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
    ]
)
"""Columns of ``scores.parquet``."""

INSTRUMENTS_KEY = "instruments"
"""The entry of the schema's metadata that holds the instruments."""

SCORED_BY_KEY = "scored_by"
"""The entry of the schema's metadata that identifies the model."""

ADAPTED_TO_KEY = "adapted_to"
"""The entry of the schema's metadata that says what the model was adapted to."""

NOTES_KEY = "notes"
"""The entry of the schema's metadata that holds a JSON list of notes."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores and labels of a set of clips.

    Attributes:
        clip_ids: One per clip, unique.
        parts: ``training`` or ``testing``, one per clip.
        groups: Clips that share a group come from one recording or song.
        labels: int8, shape (clips, instruments): 1 where the instrument plays, 0 where it does
            not, `UNKNOWN` where nobody says.
        scores: float32, shape (clips, instruments), from 0 to 1.
        vocabulary: The instruments, in the order of the columns.
        scored_by: Identity of the model, see `model_directory.scorer_identity`; empty where
            nobody says.
        adapted_to: What the model was adapted to; empty where to nothing.
        notes: What is to be known of them wherever they are shown, each a line.
    """

    clip_ids: list[str]
    parts: list[str]
    groups: list[str]
    labels: npt.NDArray[np.integer[Any]]
    scores: npt.NDArray[np.float32]
    vocabulary: Vocabulary
    scored_by: str = ""
    adapted_to: str = ""
    notes: tuple[str, ...] = ()


def write_scores(location: str | os.PathLike[str], scores: Scores) -> None:
    """Write a scores table atomically."""
    instruments = dict(zip(scores.vocabulary.codes, scores.vocabulary.names, strict=True))
    metadata = {
        INSTRUMENTS_KEY: json.dumps(instruments),
        SCORED_BY_KEY: scores.scored_by,
        ADAPTED_TO_KEY: scores.adapted_to,
        NOTES_KEY: json.dumps(scores.notes),
    }
    table = pa.table(
        {
            "clip_id": scores.clip_ids,
            "part": scores.parts,
            "group": scores.groups,
            "labels": [
                [None if v == UNKNOWN else v for v in row] for row in scores.labels.tolist()
            ],
            "scores": list(scores.scores),
        },
        schema=SCHEMA.with_metadata(metadata),
    )
    storage.write_table(location, table)


def read_scores(location: str | os.PathLike[str]) -> Scores:
    """Read a scores table.

    Raises:
        IrmasError: There is no such file, it is not a scores table, a clip is listed twice or
            without a group, or a label or a score is none.
    """
    if not storage.exists(location):
        raise IrmasError(f"{location}: no such scores file; write it with 'irmas evaluate'")
    table = storage.read_table(location)
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise IrmasError(
            f"{location} is not a scores table: it has no column {missing[0]!r}; "
            "write one with 'irmas evaluate'"
        )
    metadata = table.schema.metadata or {}
    if INSTRUMENTS_KEY.encode() not in metadata:
        raise IrmasError(
            f"{location} does not say which instruments its scores are for; "
            "write it again with 'irmas evaluate'"
        )
    try:
        instruments = json.loads(metadata[INSTRUMENTS_KEY.encode()])
        notes = tuple(map(str, json.loads(metadata.get(NOTES_KEY.encode(), b"[]"))))
        vocabulary = Vocabulary.of({str(code): str(name) for code, name in instruments.items()})
    except (ValueError, AttributeError, TypeError) as error:
        raise IrmasError(
            f"{location}: its metadata are damaged; write it again with 'irmas evaluate'"
        ) from error
    if empty := [name for name in SCHEMA.names if table.column(name).null_count]:
        raise IrmasError(f"{location}: {empty[0]} is missing in some rows")
    try:
        table = table.select(SCHEMA.names).cast(SCHEMA)
    except pa.ArrowException as error:
        raise IrmasError(f"{location} is not a scores table: {error}") from error
    clip_ids = table.column("clip_id").to_pylist()
    if repeated := [clip_id for clip_id, times in Counter(clip_ids).items() if times > 1]:
        raise IrmasError(f"{location}: {repeated[0]!r} is listed twice")
    labels = _matrix(table, "labels", len(vocabulary), location)
    if not np.isin(labels, (0, 1, UNKNOWN)).all():
        raise IrmasError(f"{location}: labels are 1, 0, or null where unknown")
    values = _matrix(table, "scores", len(vocabulary), location)
    wrong = ~((values >= 0) & (values <= 1)).all(axis=1)
    if wrong.any():
        raise IrmasError(
            f"{location}: {clip_ids[int(wrong.argmax())]!r} has a score that is not a number "
            "from 0 to 1; the training of that model diverged"
        )
    return Scores(
        clip_ids=clip_ids,
        parts=table.column("part").to_pylist(),
        groups=table.column("group").to_pylist(),
        labels=labels.astype(np.int8),
        scores=values,
        vocabulary=vocabulary,
        scored_by=metadata.get(SCORED_BY_KEY.encode(), b"").decode(),
        adapted_to=metadata.get(ADAPTED_TO_KEY.encode(), b"").decode(),
        notes=notes,
    )


def _matrix(
    table: pa.Table, name: str, instruments: int, location: str | os.PathLike[str]
) -> npt.NDArray[Any]:
    """Return a column of lists as an array, shape (clips, instruments)."""
    column = table.column(name)
    if not pc.all(pc.equal(pc.list_value_length(column), instruments), min_count=0).as_py():
        raise IrmasError(
            f"{location}: {name} must hold {instruments} values per clip, one per instrument"
        )
    values = pc.list_flatten(column)
    if name == "labels":
        values = values.cast(pa.int16()).fill_null(UNKNOWN)
    array: npt.NDArray[Any] = values.to_numpy()
    return array.reshape(-1, instruments)

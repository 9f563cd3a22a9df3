"""The manifest: one row per clip, a file or a span of one, with what later stages need to know."""

import hashlib
import json
import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from irmas_dist import storage
from irmas_dist.errors import IrmasError, first_line
from irmas_dist.instruments import IRMAS, Vocabulary
from irmas_dist.storage.results import STORE_FILE, holds

TRAINING = "training"
VALIDATION = "validation"
TESTING = "testing"
PARTS = (TRAINING, VALIDATION, TESTING)
"""Validation clips come from tables only; elsewhere they are held out of the training ones."""

SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("instruments", pa.list_(pa.string()), nullable=False),
        pa.field("unknown", pa.list_(pa.string()), nullable=False),
        pa.field("soft", pa.list_(pa.struct([("code", pa.string()), ("value", pa.float32())]))),
        pa.field("group", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("sample_rate", pa.int32()),
        pa.field("channels", pa.int32()),
        pa.field("bytes", pa.int64()),
        pa.field("modified_ns", pa.int64()),
        pa.field("md5", pa.string()),
        pa.field("problem", pa.string()),
    ]
)
"""Columns of ``manifest.parquet``.

``clip_id``: path in the tree without its suffix, Unicode NFC. ``path``: path or URL of the file.
``part``: one of `PARTS`. ``instruments``: codes of those that play; ``unknown``: codes of
those of which nobody says whether they play; all others are absent. ``soft``: labels between 0
and 1, null where there is none; those of 0.5 and more are in ``instruments`` too. ``group``: clips
that share it must stay on one side of a split. ``start_s``, ``end_s``: the span of the file that
the clip is, from 0 and to the end where null. ``bytes``: size of the file. ``modified_ns``: when
a local one was last changed, in ns since 1970. ``md5``: digest of the file, and of the span where
there is one. ``problem``: why the file cannot be used, null when it can; the other columns of an
unusable file hold what is known of it.
"""

INSTRUMENTS = b"instruments"
"""Key of a manifest's metadata: the codes, as JSON, of all instruments that it was indexed for."""


def write_manifest(
    location: str | os.PathLike[str], rows: list[dict[str, Any]], vocabulary: Vocabulary = IRMAS
) -> pa.Table:
    """Write rows as a manifest, in order of ``clip_id``, and return it as a table.

    Args:
        location: Path or URL.
        rows: By the columns of `SCHEMA`.
        vocabulary: The instruments that the rows were indexed for.
    """
    schema = SCHEMA.with_metadata({INSTRUMENTS: json.dumps(vocabulary.codes)})
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["clip_id"]), schema=schema)
    storage.write_table(location, table)
    return table


def read_manifest(location: str | os.PathLike[str]) -> pa.Table:
    """Read a manifest and check its columns.

    Raises:
        IrmasError: The file is missing, is not Parquet, lacks a column or has another type in it,
            or has a ``clip_id`` twice or a ``part`` that is none of `PARTS`.
    """
    if not storage.is_url(location) and Path(location).is_dir():
        what = (
            "a feature store: the manifest comes first"
            if holds(location, STORE_FILE)
            else f"a directory: make a manifest of it: irmas index {shlex.quote(str(location))}"
        )
        raise IrmasError(f"{location} is {what}")
    table = storage.read_table(location)
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise IrmasError(
            f"{location} is not a manifest: it has no column {missing[0]!r}; "
            "make one with 'irmas index'"
        )
    try:
        table = table.select(SCHEMA.names).cast(SCHEMA.with_metadata(table.schema.metadata))
    except (pa.ArrowException, ValueError) as error:
        reason = first_line(error)
        raise IrmasError(
            f"{location} is not a manifest: {reason}; make one with 'irmas index'"
        ) from error
    soft = table.column("soft").combine_chunks().flatten()
    if soft.field("value").null_count or soft.field("code").null_count:
        raise IrmasError(f"{location}: a soft label lacks its code or its value")
    if not pc.all(pc.is_finite(table.column("duration_s").fill_null(0.0)), min_count=0).as_py():
        raise IrmasError(f"{location}: a duration_s is no number of seconds")
    clips, parts = (table.column(name).to_pylist() for name in ("clip_id", "part"))
    [(clip, times)] = Counter(clips).most_common(1) or [("", 0)]
    if times > 1:
        raise IrmasError(f"{location} names the clip {clip!r} more than once")
    for clip, part in zip(clips, parts, strict=True):
        if part not in PARTS:
            raise IrmasError(
                f"{location}: the part of {clip!r} is {part!r}, none of {', '.join(PARTS)}"
            )
    return table


def require_indexed(
    table: pa.Table, vocabulary: Vocabulary, location: str | os.PathLike[str]
) -> None:
    """Check that a manifest was indexed for all instruments of a vocabulary.

    One that was edited elsewhere may not say which it was indexed for, and is taken as it is.

    Raises:
        IrmasError: Others would count as absent, which nobody has said.
    """
    stated = (table.schema.metadata or {}).get(INSTRUMENTS)
    with storage.damage_reported(location, "index again"):
        codes = vocabulary.codes if stated is None else json.loads(stated)
    if others := [code for code in vocabulary.codes if code not in codes]:
        raise IrmasError(
            f"{location} was indexed without {', '.join(others)}: index it again with this recipe, "
            "or extract with the one that it was indexed with (--config)"
        )


def manifest_fingerprint(table: pa.Table) -> str:
    """Return a digest of a manifest's content, whatever the order and location of its files."""
    digest = hashlib.sha256()
    columns = ["clip_id", "part", "instruments", "unknown", "soft", "group", "md5", "problem"]
    for row in sorted(table.select(columns).to_pylist(), key=lambda row: row["clip_id"]):
        digest.update(repr([row[name] for name in columns]).encode())
    return digest.hexdigest()[:16]

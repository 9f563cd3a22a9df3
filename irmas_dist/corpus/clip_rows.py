"""A line of a table of clips: the clip that it states, and where its file is."""

import posixpath
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from irmas_dist import storage
from irmas_dist.corpus.audio import WHOLE
from irmas_dist.corpus.audio_files import clip_id_of
from irmas_dist.corpus.csv_tables import CsvRow, parse_number
from irmas_dist.corpus.groups import WITHIN, group_in_source
from irmas_dist.corpus.label_columns import nfc
from irmas_dist.corpus.manifest import PARTS, TESTING, TRAINING, VALIDATION
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import PRESENT

OTHER_NAMES = {"train": TRAINING, "valid": VALIDATION, "val": VALIDATION, "test": TESTING}
"""What else parts are called."""

LATEST_S = 1e7
"""Time in a file, in seconds, that can only be a mistake: four months."""


def clip_row(
    line: CsvRow, called: Mapping[str, str], folder: str, labels: Mapping[str, float | None]
) -> dict[str, Any]:
    """Return the columns of a manifest that a line of the table gives."""

    def value(name: str) -> str:
        return line.values.get(called[name], "").strip()

    def refuse(name: str, allowed: str) -> IrmasError:
        return IrmasError(f"{line.where}, column {called[name]!r}: {value(name)!r} is {allowed}")

    path = _with_slashes(folder, storage.without_file_scheme(value("path")))
    if not PurePosixPath(path).name or "\0" in path:
        raise refuse("path", "no path of a file")
    if storage.is_url(path):
        try:
            storage.resolve(path)
        except IrmasError as error:
            raise IrmasError(f"{line.where}, column {called['path']!r}: {error}") from error
    elif storage.is_url(folder) and path.startswith("/"):
        raise refuse("path", f"no path below {folder}")
    if WITHIN in value("source"):
        raise refuse("source", f"no name of a source: it contains {WITHIN!r}")
    if (part := part_of(value("part"))) is None:
        raise refuse("part", f"none of {', '.join(PARTS)}")
    start, end = (parse_seconds(value(name)) for name in ("start", "end"))
    if not 0 <= (start or 0.0) < LATEST_S:
        raise refuse("start", f"no time in seconds, from 0 to {LATEST_S:,.0f}")
    if end is not None and not (start or 0.0) < end < LATEST_S:
        after = f"after {start or 0.0:g}, where the clip starts, to {LATEST_S:,.0f}"
        raise refuse("end", f"no time in seconds {after}")
    file_id = nfc(path) if storage.is_url(path) else clip_id_of(path)
    span = "" if (start or 0.0, end) == WHOLE else f"@{start or 0.0:.10g}-" + (
        "" if end is None else f"{end:.10g}"
    )  # fmt: skip
    return {
        "clip_id": file_id + span,
        "path": path if storage.is_url(path) else _below(folder, path),
        "part": part,
        "instruments": [code for code, label in labels.items() if (label or 0.0) >= PRESENT],
        "unknown": [code for code, label in labels.items() if label is None],
        "soft": [
            {"code": code, "value": label}
            for code, label in labels.items()
            if label not in (None, 0.0, 1.0)
        ],
        "group": group_in_source(
            f"group {nfc(value('group'))}" if value("group") else f"file {file_id}",
            nfc(value("source")),
        ),
        "grouped": bool(value("group")),
        "start_s": start,
        "end_s": end,
    }


def part_of(text: str) -> str | None:
    """Return the part that a table names, in any case; None if it is none."""
    name = text.casefold() or TRAINING
    return OTHER_NAMES.get(name, name if name in PARTS else None)


def parse_seconds(text: str) -> float | None:
    """Return a time; None if there is none, NaN if it is no number."""
    try:
        return parse_number(text) if text else None
    except ValueError:
        return float("nan")


def _below(folder: str, path: str) -> str:
    if storage.is_url(folder):
        # Keys are taken as they are written.
        scheme, _, rest = storage.join(folder, path).partition("://")
        plain = {".", ".."}.isdisjoint(path.split("/"))
        return f"{scheme}://{rest if plain else posixpath.normpath(rest)}"
    # Of other names with a tilde, such as ~take.wav, none is a home.
    return str(Path(folder, storage.absolute(path) if path.startswith("~/") else path))


def _with_slashes(folder: str, path: str) -> str:
    """Return a path with the separators of Windows as one of this machine, if that is a file's."""
    if "\\" not in path or storage.is_url(folder) or storage.is_url(path):
        return path
    slashed = path.replace("\\", "/")
    with suppress(OSError):
        if Path(_below(folder, slashed)).exists() and not Path(_below(folder, path)).exists():
            return slashed
    return path


def as_found(path: str) -> str:
    """Return a local path in the form of Unicode in which its file is found, if it is.

    macOS writes names in another form than Linux finds them.
    """
    forms = (path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))
    with suppress(OSError):  # of a name that is too long, which is reported where it is read
        return next((form for form in forms if Path(form).exists()), path)
    return path

"""Predictions in files: JSON, CSV or Parquet, and what is kept of them while they are made.

Beside a file of predictions that is not finished lies one of the same name and ``.partial``,
with a line of JSON for every file that was predicted. Whoever was interrupted finds there what
is done, and the same command again goes on from it.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.inference.audio_inputs import STDIN, Prediction
from irmas_dist.training.model_directory import ModelDescription

Format = Literal["table", "json", "csv", "parquet"]
"""A table is for people alone, and in no file."""


def as_object(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as it is written to JSON."""
    if prediction.error is not None:
        return {"path": prediction.path, "error": prediction.error}
    return {
        "path": prediction.path,
        "instruments": prediction.instruments,
        "scores": prediction.scores,
    }


def csv_line(cells: Iterable[Any]) -> str:
    """Return one line of CSV with its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def csv_header(codes: Sequence[str]) -> str:
    """Return the first line of predictions in CSV."""
    return csv_line(["path", "instruments", "error", *codes])


def csv_row(prediction: Prediction, codes: Sequence[str]) -> str:
    """Return a prediction as a line of CSV, scores with the digits that float32 has."""
    scores = [f"{prediction.scores[code]:.9g}" if prediction.scores else "" for code in codes]
    heard = "|".join(prediction.instruments)
    return csv_line([prediction.path, heard, prediction.error, *scores])


def write_predictions(
    out: str, form: Format, predictions: Sequence[Prediction], codes: Sequence[str]
) -> None:
    """Write predictions to a file, whole or not at all.

    Args:
        out: Path or URL.
        form: Its format, not ``table``. CSV and Parquet have the columns ``path``, ``instruments``,
            ``error`` and one for the score of each instrument.
        predictions: What to write, in order.
        codes: The instruments.

    Raises:
        IrmasError: The file cannot be written.
    """
    if form == "parquet":
        storage.write_table(out, _table(predictions, codes))
        return
    if form == "json":
        storage.write_json(out, {"predictions": [as_object(each) for each in predictions]})
        return
    lines = [csv_header(codes), *(csv_row(each, codes) for each in predictions)]
    with storage.write_atomically(out) as stream:
        stream.write("".join(lines).encode())


def _table(predictions: Sequence[Prediction], codes: Sequence[str]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "path": pa.array([each.path for each in predictions], pa.string()),
        "instruments": pa.array(
            [None if each.error else each.instruments for each in predictions],
            pa.list_(pa.string()),
        ),
        "error": pa.array([each.error for each in predictions], pa.string()),
    }
    for code in codes:
        values = [each.scores.get(code) for each in predictions]
        columns[code] = pa.array(values, pa.float32())
    return pa.table(columns)


class Journal:
    """Predictions that are done, line by line beside the file that they are for.

    Args:
        out: The file, a local path.
        description: The model; what another one predicted is not taken up.
        timelines: Where scores over time go, for the same reason.

    Attributes:
        path: The journal.
        known: What an earlier run has left, by file; errors are not among them.
    """

    def __init__(self, out: str, description: ModelDescription, timelines: str | None) -> None:
        self.path = Path(out + storage.PARTIAL)
        content = [description.model_dump_json(), timelines]
        about = {"made_by": hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}
        self.known: dict[str, Prediction] = {}
        kept = self._read(about)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("w", encoding="utf-8")
        except OSError as error:
            raise IrmasError(f"{self.path}: {error.strerror}") from error
        for entry in (about, *kept):
            self._append(entry)

    def add(self, prediction: Prediction) -> None:
        """Write down a prediction."""
        self._append(as_object(prediction) | {"file": _state(prediction.path)})

    def finish(self) -> None:
        """Delete the journal: what it is for has been written."""
        self._stream.close()
        self.path.unlink()

    def _read(self, about: dict[str, Any]) -> list[dict[str, Any]]:
        """Take up what is there, if it was made alike, of files that are what they were."""
        try:
            lines = self.path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        # The last line of a process that was killed may be half a line.
        entries = [entry for entry in map(_entry, lines) if entry]
        if not entries or entries[0] != about:
            return []
        kept = []
        for entry in entries[1:]:
            path = entry["path"]
            if "error" not in entry and entry["file"] and entry["file"] == _state(path):
                self.known[path] = Prediction(path, entry["scores"], entry["instruments"])
                kept.append(entry)
        return kept

    def _append(self, entry: dict[str, Any]) -> None:
        self._stream.write(json.dumps(entry) + "\n")
        self._stream.flush()


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return entry


def _state(path: str) -> list[int] | None:
    """Return what changes when a file does, its size and time; None for what is no file."""
    if path == STDIN:
        return None
    filesystem, place = storage.resolve(path)
    found = filesystem.get_file_info(place)
    return [found.size, found.mtime_ns] if found.is_file else None

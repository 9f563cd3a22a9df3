"""Predictions in files: JSON, CSV or Parquet, and the journal from which a run resumes.

During a run, a journal beside the output file, with the suffix ``.partial``, has a line of JSON
for every predicted file. The same command resumes an interrupted run from it.
"""

import csv
import hashlib
import io
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from irmas_dist import storage
from irmas_dist.config.corpus import PREDICTION_COLUMNS
from irmas_dist.errors import IrmasError
from irmas_dist.inference.audio_inputs import STDIN, Prediction
from irmas_dist.training.model_description import ModelDescription


def as_object(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as a JSON object."""
    keys = ("error",) if prediction.error else ("instruments", "scores", "note")
    named = {"path": prediction.name}
    adapted = {"adapted_to": prediction.adapted_to} if prediction.adapted_to else {}
    return named | {key: getattr(prediction, key) for key in keys} | adapted


def csv_line(cells: Iterable[Any]) -> str:
    """Return one line of CSV with its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def csv_header(codes: Sequence[str]) -> str:
    """Return the first line of predictions in CSV."""
    return csv_line([*PREDICTION_COLUMNS, *codes])


def csv_row(prediction: Prediction, codes: Sequence[str]) -> str:
    """Return a prediction as a line of CSV, scores with the digits that float32 has."""
    scores = [f"{prediction.scores[code]:.9g}" if prediction.scores else "" for code in codes]
    instruments = "|".join(prediction.instruments)
    about = (prediction.error, prediction.note, prediction.adapted_to)
    return csv_line([prediction.name, instruments, *about, *scores])


def write_predictions(
    out: str, form: str, predictions: Sequence[Prediction], codes: Sequence[str]
) -> None:
    """Write predictions to a file, atomically.

    Args:
        out: Path or URL.
        form: ``json``, ``csv`` or ``parquet``. CSV and Parquet have the columns ``path``,
            ``instruments``, ``error``, ``note``, ``adapted_to`` and one per instrument, its score.
        predictions: In the order of the file.
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
    columns = dict.fromkeys(PREDICTION_COLUMNS, pa.string()) | {
        "instruments": pa.list_(pa.string())
    }
    rows = [as_object(each) | each.scores for each in predictions]
    return pa.Table.from_pylist(rows, pa.schema(columns | dict.fromkeys(codes, pa.float32())))


CLOCK_NS = 20_000_000
"""How far the clock of file systems may be behind, in nanoseconds: it ticks a hundred times a
second or more often."""


def open_journal(
    out: str, description: ModelDescription, timelines: str | None
) -> "Journal | None":
    """Open the journal of a file, see `Journal`; only local files have one."""
    if out == storage.STDOUT or storage.is_url(out):
        return None
    if Path(out).exists() and not Path(out).is_file():
        return None
    return Journal(out, description, timelines)


class Journal:
    """Predictions made so far, a line each, beside the file that they are to be written to.

    Args:
        out: The file, a local path.
        description: The model; a journal of another one is discarded.
        timelines: The folder for scores over time; likewise.

    Attributes:
        path: The journal.
        known: Predictions of an interrupted run by path, except errors and files changed since.
    """

    def __init__(self, out: str, description: ModelDescription, timelines: str | None) -> None:
        self.path = Path(out).with_name(storage.name_after(Path(out).name, storage.PARTIAL))
        content = [description.model_dump_json(), timelines and storage.absolute(timelines)]
        header = {"made_by": hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}
        entries = self._read(header)
        self.known = {
            entry["path"]: Prediction(
                entry["path"],
                entry["scores"],
                entry["instruments"],
                note=entry["note"],
                adapted_to=entry.get("adapted_to"),
            )
            for entry in entries
        }
        with storage.write_atomically(self.path) as stream:
            stream.writelines(_line(entry) for entry in (header, *entries))
        self._stream, self._begun = self.path.open("ab"), time.time_ns()

    def add(self, prediction: Prediction) -> None:
        """Append a prediction, of a file that changes meanwhile as one to be made again."""
        file = _size_and_time(prediction.path)
        if file and file[1] >= self._begun - CLOCK_NS:
            file = None
        self._append(as_object(prediction) | {"path": prediction.path, "file": file})

    def finish(self) -> None:
        """Delete the journal, once its predictions have been written."""
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def _read(self, header: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the usable entries of an earlier run with the same header."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise IrmasError(f"{self.path}: {error.strerror}") from error
        entries = []
        for line in lines:
            with suppress(ValueError):  # The last line of a killed process may be incomplete.
                entries.append(json.loads(line))
        if not entries or entries[0] != header:
            return []
        return [
            entry
            for entry in entries[1:]
            if isinstance(entry, dict)
            and entry.keys() - {"adapted_to"} == {"path", "instruments", "scores", "note", "file"}
            and entry["file"]
            and entry["file"] == _size_and_time(entry["path"])
        ]

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            self._stream.write(_line(entry))
            self._stream.flush()
        except OSError as error:
            raise IrmasError(f"{self.path}: {error.strerror}") from error


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _size_and_time(path: str) -> list[int] | None:
    """Return a file's size and time of modification; None for pipes and missing files."""
    if path == STDIN or (not storage.is_url(path) and not Path(path).is_file()):
        return None
    # Not through pyarrow, which takes no names but in UTF-8.
    if not storage.is_url(path):
        status = Path(path).stat()
        return [status.st_size, status.st_mtime_ns]
    try:
        filesystem, inner = storage.resolve(path)
        info = filesystem.get_file_info(inner)
    except (OSError, IrmasError):  # The object store does not answer, as its prediction says.
        return None
    return [info.size, info.mtime_ns] if info.is_file else None

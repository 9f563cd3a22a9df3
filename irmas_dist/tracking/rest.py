"""What of a run's file is sent: all of it, or a copy with what the server does not have yet.

A run that a kill has cut may be there in part. A run that was begun elsewhere, or whose earlier
files are deleted, has values there that its file does not know, and which it would replace.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from irmas_dist.terminal import say
from irmas_dist.tracking.run_file import (
    REST,
    SENT,
    RunFile,
    is_begun_elsewhere,
    read_records,
    write_records,
)
from irmas_dist.tracking.server import Known, known_run

ANSWER_S = 10.0
"""How long to wait for an answer of the server."""


def unsent(file: Path) -> Path:
    """Return a file with what the server does not have of a run's file: itself, or a copy.

    Raises:
        Exception: The server does not say what it has.
    """
    rest = file.with_name(file.stem + REST)
    begun = any(
        part.with_suffix(end).exists()
        for part in (file, rest)
        for end in (SENT, ".wandb.syncstate")
    )
    found = RunFile(file)
    run = found.run
    if run is None:
        return file
    begun_elsewhere = is_begun_elsewhere(file)
    moved = any(not Path(entry.local_path).exists() for entry in _entries(file))
    if found.whole and not (begun or begun_elsewhere or moved):
        return file
    known = Known()
    if begun or begun_elsewhere:
        known = known_run(run.entity, run.project, run.run_id, ANSWER_S)
    remove_rest(rest)  # of an upload that was killed
    write_records(rest, _rest(file, known, merged=begun_elsewhere and not begun))
    return rest


def remove_rest(rest: Path) -> None:
    """Delete a copy, and what wandb's service has written beside it."""
    for made in rest.parent.glob(f"{rest.name}*"):
        made.unlink()


def _rest(file: Path, known: Known, merged: bool) -> Iterator[Any]:
    """Yield the records of a run's file that the server does not have.

    Args:
        file: The file.
        known: What the server has.
        merged: Whether that is from other files than this one. Then what the run logs besides
            epochs follows the last step, and values that this file does not have are added.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    last = known.last_step
    for record in read_records(file):
        match record.WhichOneof("record_type"):
            case "history" if record.history.step.num <= known.last_step:
                if not merged or any(_name(item) == "epoch" for item in record.history.item):
                    continue
                last += 1
                _renumber(record.history, last)
            case "artifact" if missing := _missing(record.artifact, file.parent):
                name = record.artifact.name
                say(escape(f"W&B: artifact {name} is not uploaded: {missing} is missing"))
                continue
            case "run" if merged:
                _add(record.run.config.update, known.config)
        yield record
        if merged and known.summary and record.HasField("run"):
            summary = Record()
            _add(summary.summary.update, known.summary)
            yield summary


def _entries(file: Path) -> Iterator[Any]:
    """Yield the entries of the artifacts of a run that are local files."""
    for record in read_records(file):
        if record.HasField("artifact"):
            yield from (one for one in record.artifact.manifest.contents if one.local_path)


def _renumber(history: Any, step: int) -> None:
    history.step.num = step
    for item in history.item:
        if _name(item) == "_step":
            item.value_json = json.dumps(step)


def _name(item: Any) -> str:
    """Return the name of a value of a record, which may be nested."""
    return str((item.nested_key or [item.key])[0])


def _add(items: Any, values: Mapping[str, Any]) -> None:
    """Add values to those of a record, unless it has them."""
    own = {_name(item): item for item in items}
    for name, value in values.items():
        if name not in own:
            items.add(key=name, value_json=json.dumps(value))
        elif isinstance(value, dict) and own[name].key:
            changed = json.loads(own[name].value_json)
            if isinstance(changed, dict):
                own[name].value_json = json.dumps({**value, **changed})


def _missing(artifact: Any, folder: Path) -> Path | None:
    """Return a file of an artifact that is missing, if any.

    Those that lie in the run's folder are found where that is now.
    """
    for entry in artifact.manifest.contents:
        path = Path(entry.local_path)
        if not entry.local_path or path.exists():
            continue
        if folder.name in path.parts:
            path = folder.joinpath(*path.parts[path.parts.index(folder.name) + 1 :])
            entry.local_path = str(path)
        if not path.exists():
            return path
    return None

"""What of a run's file is sent: all of it, or a copy with what the server does not have yet.

The server may have a run in part, of a file whose upload a kill has cut, or from other machines and
directories. What it has is merged into the copy, since what is uploaded would replace it.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.terminal import say
from irmas_dist.tracking.run_file import COPY_SUFFIX, RunFile, read_records, write_records
from irmas_dist.tracking.server import Known, known_run

ANSWER_S = 10.0
"""How long to wait for an answer of the server."""

SETTLED_S = 10.0
"""How long the server may take until it says that it has the last step of a run."""

ASKED_S = 0.5
"""How often it is asked until then."""

BEFORE = ".before.json"
"""Suffix of a file that says what the server had of a run before any of a run's file was sent: the
last step, and the last epoch. What is logged after it is this file's own."""


def unsent(file: Path) -> Path:
    """Return a file with what the server does not have of a run's file: itself, or a copy.

    Raises:
        Exception: The server does not say what it has.
    """
    found = RunFile(file)
    run = found.run
    if run is None:
        return file
    known = known_run(run.entity, run.project, run.run_id, ANSWER_S)
    if not file.with_suffix(BEFORE).exists():
        mark_before(file, known)
    if (
        found.whole
        and known == Known()
        and all(Path(entry.local_path).exists() for entry in _entries(file))
    ):
        return file
    rest = file.with_name(file.stem + COPY_SUFFIX)
    remove_copy(rest)  # of an upload that was killed
    write_records(rest, _rest(file, known, storage.read_json(file.with_suffix(BEFORE))))
    return rest


def lacks_steps(file: Path) -> bool:
    """Return whether the server lacks steps of a run's file, which it may take a moment to count.

    It may drop some of what it is sent, and wandb's service calls the file sent nevertheless.

    Raises:
        Exception: The server does not say what it has.
    """
    found, until = RunFile(file), time.monotonic() + SETTLED_S
    run = found.run
    while run is not None and found.last_step >= 0:
        known = known_run(run.entity, run.project, run.run_id, ANSWER_S)
        if known.last_step >= found.last_step:
            return False
        if time.monotonic() > until:
            return True
        time.sleep(ASKED_S)
    return False


def mark_before(file: Path, known: Known) -> None:
    """Note what the server has of a run before any of its file is sent."""
    before = {"step": known.last_step, "epoch": known.summary.get("epoch", 0)}
    storage.write_json(file.with_suffix(BEFORE), before)


def remove_copy(rest: Path) -> None:
    """Delete a copy, and what wandb's service has written beside it."""
    for made in rest.parent.glob(f"{rest.name}*"):
        made.unlink()


def _rest(file: Path, known: Known, before: Mapping[str, float]) -> Iterator[Any]:
    """Yield the records of a run's file that the server does not have.

    Args:
        file: The file.
        known: What the server has. Values of it that this file does not have are added.
        before: The step and the epoch that it had before any of this file was sent. Of what follows
            them, steps that the server has were sent from this file.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    step, merged = before["step"], False
    for record in read_records(file):
        match record.WhichOneof("record_type"):
            case "history":
                if 0 < _epoch(record.history) <= before["epoch"]:
                    continue
                step = max(step + 1, record.history.step.num)
                if step <= known.last_step:
                    continue
                _renumber(record.history, step)
            case "artifact" if missing := _missing(record.artifact, file.parent):
                name = record.artifact.name
                say(f"W&B: artifact {name} is not uploaded: {missing} is missing")
                continue
            case "run" if not merged:  # Others follow if it is changed, as by tags.
                _add(record.run.config.update, known.config)
        yield record
        if record.HasField("run") and not merged:
            merged = True
            if known.summary:
                summary = Record()
                _add(summary.summary.update, known.summary)
                yield summary


def _entries(file: Path) -> Iterator[Any]:
    """Yield the entries of the artifacts of a run that are local files."""
    for record in read_records(file):
        if record.HasField("artifact"):
            yield from (one for one in record.artifact.manifest.contents if one.local_path)


def _epoch(history: Any) -> float:
    """Return the epoch that is logged; 0 if it is something else."""
    return next((json.loads(i.value_json) for i in history.item if _name(i) == "epoch"), 0.0)


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

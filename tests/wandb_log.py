"""Runs of W&B that were written to disk, read back."""

import json
from pathlib import Path
from typing import Any

from irmas_dist.tracking.run_file import RunFile, read_records


def inspect(log: Path) -> dict[str, Any]:
    """Return what a run's file holds: id, state, tags, configuration, summary, epochs."""
    found, records = RunFile(log), list(read_records(log))
    codes = [one.exit.exit_code for one in records if one.HasField("exit")]
    return {
        "run_id": found.run.run_id,
        "state": "finished" if codes == [0] else "failed",
        "exit_code": codes[0] if codes else None,
        "tags": [list(one.run.tags) for one in records if one.HasField("run")][-1],
        "config": found.config,
        "summary": found.summary,
        "epochs": [
            values["epoch"]
            for one in records
            if one.HasField("history") and "epoch" in (values := history_values(one.history))
        ],
    }


def history_values(history: Any) -> dict[str, Any]:
    """Return the values of a history record by name."""
    return {
        (item.nested_key or [item.key])[0]: json.loads(item.value_json) for item in history.item
    }

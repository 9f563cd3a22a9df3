"""Runs of W&B that were written to disk, read back."""

from pathlib import Path
from typing import Any

from irmas_dist.tracking.run_file import RunFile, read_records


def inspect(log: Path) -> dict[str, Any]:
    """Return what a run's file holds: id, state, tags, configuration, summary."""
    found, records = RunFile(log), list(read_records(log))
    codes = [one.exit.exit_code for one in records if one.HasField("exit")]
    return {
        "run_id": found.run.run_id,
        "state": "finished" if codes == [0] else "failed",
        "exit_code": codes[0] if codes else None,
        "tags": [list(one.run.tags) for one in records if one.HasField("run")][-1],
        "config": found.config,
        "summary": found.summary,
    }

"""The log of wandb's service: it alone tells that a server refuses a file or an artifact of a run.

To the caller the service says that such a run is uploaded.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

LOGS = "wandb/logs/debug-sync*.log"
"""Where the service writes, below its root directory. A line is a JSON object."""

FAILURES = ("sender: failed to log artifact", "runfiles:", "file transfer:")
"""How messages begin, at the level of errors, by which something was not uploaded."""


def service_time() -> str:
    """Return the time as the service writes it, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def lacks_files(root: Path, file: Path, since: str) -> bool:
    """Return whether a server has refused a file or an artifact of a run.

    Args:
        root: The root directory of wandb's settings.
        file: The run's file that was sent.
        since: When that was begun, from `service_time`.
    """
    return any(
        line.get("sync_path") == str(file)
        and line.get("level") == "ERROR"
        and str(line.get("msg", "")).startswith(FAILURES)
        and str(line.get("time", "")) >= since
        for log in root.glob(LOGS)
        for line in _lines(log)
    )


def _lines(log: Path) -> list[dict[str, object]]:
    found = []
    with suppress(OSError):
        for line in log.read_bytes().splitlines():
            with suppress(ValueError):  # The last one may be incomplete.
                found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict)]

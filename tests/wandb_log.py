"""Runs of W&B that were written to disk, read back with its own tool."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def inspect(log: Path) -> dict[str, Any]:
    """Return what a run's file holds: id, state, configuration, summary."""
    wandb = Path(sys.executable).parent / "wandb"
    printed = subprocess.run(
        [wandb, "leet", "inspect", "--summary", "--json", log],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(printed.stdout)
    return found

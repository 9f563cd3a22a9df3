"""What goes with a job: the code without data, some of the environment, and no other file.

A job runs in a temporary copy of the packed directory, which is deleted after it.
"""

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

EXCLUDES = (
    *(".git", ".env", ".venv", "venv", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"),
    *("/build", "/dist", "/data", "/runs", "/tests", "wandb"),
    *("*.wav", "*.flac", "*.mp3", "*.ogg", "*.aiff", "*.npy", "*.parquet"),
    *("*.pt", "*.safetensors", "*.onnx", "*.zip", "*.tar", "*.tar.gz", "*.tgz"),
)
"""What is never packed with the code (gitignore patterns): data, results, secrets, caches."""

PASSED = re.compile(r"WANDB_(API_KEY|BASE_URL|ENTITY|PROJECT|MODE)|AWS_\w+|IRMAS_\w+")
"""Environment variables that go with a job."""

NAMES_A_LOCAL_FILE = re.compile(r"AWS_(CA_BUNDLE|CONFIG_FILE|\w+_(CREDENTIALS|TOKEN)_FILE)")
"""The ones among them that stay: they point to files that the cluster does not have."""


def checkout() -> Path | None:
    """Return the source tree that this package runs from, unless it is installed."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def passed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that go with a job: for W&B, for object stores, and our own.

    The values travel in the job's runtime environment, which everyone who may submit
    jobs to the cluster can read.
    """
    return {
        name: value
        for name, value in environment.items()
        if PASSED.fullmatch(name) and not NAMES_A_LOCAL_FILE.fullmatch(name)
    }


def left_behind(arguments: Sequence[str], directory: Path | None) -> list[str]:
    """Return the relative paths among a job's arguments that exist here and not where it runs.

    Args:
        arguments: What follows the command's name; of ``name=value``, the value counts.
        directory: What is packed, if anything. Of it, files that are not excluded go along;
            a directory counts as left behind even so, as what is in it is data as a rule.
    """
    values = [argument.rpartition("=")[2] for argument in arguments]
    return [
        value
        for value in values
        if value
        and not Path(value).is_absolute()
        and os.path.exists(value)  # noqa: PTH110 - takes anything, also what can name no file
        and not (directory and (directory / value).is_file() and not _excluded(PurePath(value)))
    ]


def _excluded(path: PurePath) -> bool:
    """Return whether a pattern covers a path inside the packed directory."""
    return any(
        fnmatchcase(path.parts[0], pattern[1:])
        if pattern.startswith("/")
        else any(fnmatchcase(part, pattern) for part in path.parts)
        for pattern in EXCLUDES
    )

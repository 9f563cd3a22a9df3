"""The package of a job: the code without data, and some environment variables."""

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from irmas_dist.config.serving import TOKEN
from irmas_dist.errors import IrmasError

EXCLUDES = (
    *(".git", ".env", ".venv", "venv", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"),
    *("/build", "/dist", "/data", "/runs", "/tests", "wandb"),
    *("*.wav", "*.flac", "*.mp3", "*.ogg", "*.aiff", "*.npy", "*.parquet"),
    *("*.pt", "*.safetensors", "*.onnx", "*.zip", "*.tar", "*.tar.gz", "*.tgz"),
)
"""Patterns, as in gitignore, of what is not packed: data, results, secrets, caches."""

PASSED = re.compile(
    r"WANDB_(API_KEY|BASE_URL|ENTITY|PROJECT|MODE)"
    r"|AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|REGION|DEFAULT_REGION"
    r"|ENDPOINT_URL|ENDPOINT_URL_S3|MAX_ATTEMPTS|RETRY_MODE"
    r"|REQUEST_CHECKSUM_CALCULATION|RESPONSE_CHECKSUM_VALIDATION)"
    r"|AZURE_(STORAGE_\w+|TENANT_ID|CLIENT_ID|CLIENT_SECRET|AUTHORITY_HOST)"
    r"|PG(HOST|PORT|DATABASE|USER|PASSWORD|SSLMODE)"
)
"""Environment variables sent with a job: for W&B, object stores and the study's database. Others of
theirs name files of this machine, or say how it gets its keys."""


def checkout() -> Path | None:
    """Return the source tree that this package runs from, unless it is installed."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def passed_environment(
    environment: Mapping[str, str], others: Sequence[str] = (), command: str = ""
) -> dict[str, str]:
    """Return the environment variables to send with a job: those of `PASSED`, and others by name.

    Everyone with access to the cluster's jobs can read them. The token of clients of a model goes
    along with ``command`` serve alone.

    Raises:
        IrmasError: One of the others is not set.
    """
    if missing := [name for name in others if name not in environment]:
        raise IrmasError(f"{', '.join(missing)} cannot be sent with the job: not set here")
    return {
        name: value
        for name, value in environment.items()
        if name in others or PASSED.fullmatch(name) or (name == TOKEN and command == "serve")
    }


def left_behind(arguments: Sequence[str], directory: Path | None) -> list[str]:
    """Return the relative paths among a job's arguments that exist here, but not where it runs.

    Args:
        arguments: What follows the command's name; of ``name=value``, only the value is used.
        directory: The packed directory, if any. Its files are sent unless excluded; its
            subdirectories count as left behind, because they usually hold excluded data.
    """
    return [
        value
        for value in (argument.rpartition("=")[2] for argument in arguments)
        if value
        and not Path(value).is_absolute()
        and os.path.exists(value)  # noqa: PTH110 - takes any text, also what cannot be a path
        and not (directory and (directory / value).is_file() and not _excluded(PurePath(value)))
    ]


def _excluded(path: PurePath) -> bool:
    """Return whether a pattern excludes a path of the packed directory."""
    names = (f"/{path.parts[0]}", *path.parts)
    return any(fnmatchcase(name, pattern) for name in names for pattern in EXCLUDES)

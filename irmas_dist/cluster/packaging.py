"""What goes with a job: the code without data, some of the environment, and no other file.

A job runs in a temporary copy of the packed directory, which is deleted after it.
"""

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from ray._private.runtime_env import packaging

from irmas_dist.errors import IrmasError

EXCLUDES = (
    *(".git", ".env", ".venv", "venv", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"),
    *("/build", "/dist", "/data", "/runs", "/tests", "wandb"),
    *("*.wav", "*.flac", "*.mp3", "*.ogg", "*.aiff", "*.npy", "*.parquet"),
    *("*.pt", "*.safetensors", "*.onnx", "*.zip", "*.tar", "*.tar.gz", "*.tgz"),
)
"""What is never packed with the code (gitignore patterns): data, results, secrets, caches."""

PACKABLE_BYTES = 512 << 20
"""Ray keeps packages in the head's memory, and takes none that is larger."""

PASSED = re.compile(
    r"WANDB_(API_KEY|BASE_URL|ENTITY|PROJECT|MODE)|IRMAS_\w+"
    r"|(AWS|AZURE)_\w+|PG(HOST|PORT|DATABASE|USER|PASSWORD|SSLMODE)"
)
"""Environment variables that go with a job: for W&B, object stores and the study's database."""

NAMES_A_LOCAL_FILE = re.compile(r"(AWS|AZURE)_(CA_BUNDLE|\w+_FILE|\w+_PATH|CONFIG_DIR)")
"""The ones among them that stay: they point to files that the cluster does not have."""


def checkout() -> Path | None:
    """Return the source tree that this package runs from, unless it is installed."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def passed_environment(
    environment: Mapping[str, str], others: Sequence[str] = ()
) -> dict[str, str]:
    """Return the variables that go with a job.

    The values travel in the job's runtime environment, which everyone who may submit
    jobs to the cluster can read.

    Args:
        environment: What there is.
        others: Names of variables that go along besides those of `PASSED`.

    Raises:
        IrmasError: One of the others is not set.
    """
    if missing := [name for name in others if name not in environment]:
        raise IrmasError(f"{', '.join(missing)} cannot go with the job: not set here")
    return {
        name: value
        for name, value in environment.items()
        if name in others or (PASSED.fullmatch(name) and not NAMES_A_LOCAL_FILE.fullmatch(name))
    }


def require_packable(directory: Path, limit: int = PACKABLE_BYTES) -> None:
    """Refuse a directory that is too large to go with a job, before it is read and zipped.

    Raises:
        IrmasError: What is left of it after the exclusions is larger than ``limit`` bytes.
    """
    sizes: dict[str, int] = {}

    def measure(path: Path) -> None:
        if path.is_file():
            sizes[str(path.relative_to(directory))] = path.stat().st_size

    excluded = [packaging._get_excludes(directory, list(EXCLUDES))]
    packaging._dir_travel(directory, excluded, measure, include_gitignore=True)
    if (total := sum(sizes.values())) > limit:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        listed = ", ".join(f"{name} ({sizes[name] / 1e6:,.0f} MB)" for name in largest)
        raise IrmasError(
            f"{directory} is too large to go with a job: {total / 1e6:,.0f} MB of at most "
            f"{limit / 1e6:,.0f}; the largest: {listed}; move data elsewhere, or name it in "
            ".gitignore or .rayignore"
        )


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

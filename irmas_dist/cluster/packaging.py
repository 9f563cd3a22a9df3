"""The package of a job: the code without data, and some environment variables."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from irmas_dist.config.serving import TOKEN
from irmas_dist.errors import IrmasError

SENT = frozenset(
    (".py", ".pyi", ".typed", ".toml", ".yaml", ".yml", ".md", ".html", ".css", ".js", ".xz")
)
"""Suffixes of the files that are packed. Data and results, most keys and whatever else has not been
thought of have others."""

NAMES_A_SECRET = re.compile(r"secret|credential|password|token|kube_?config", re.IGNORECASE)
"""Files other than Python's that are not packed."""

NOT_SENT = re.compile(r"\..*|__pycache__|.*\.egg-info|node_modules|runs|site-packages|wandb")
"""Folders that are not packed, wherever they are: hidden ones, caches, libraries, results."""

NOT_SENT_FROM_THE_TOP = frozenset(("build", "data", "dist", "tests"))

IGNORING = (".gitignore", ".rayignore")
"""Files by which Ray leaves out others."""

ENVIRONMENT = ("pyvenv.cfg", "conda-meta")
"""What a folder with an environment of Python has in it."""

PASSED = re.compile(
    r"WANDB_(API_KEY|BASE_URL|ENTITY|MODE)"
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
        directory: The packed directory, if any. Its subdirectories count as left behind, because
            they usually hold data.
    """
    sent = {str(path) for path in packed_files(directory)} if directory else set()
    return [
        value
        for value in (argument.rpartition("=")[2] for argument in arguments)
        if value
        and not Path(value).is_absolute()
        and os.path.exists(value)  # noqa: PTH110 - takes any text, also what cannot be a path
        and os.path.normpath(value) not in sent
    ]


def pack(directory: Path, package: Path) -> None:
    """Copy the files of a directory that are packed into another one.

    Raises:
        OSError: One of them cannot be read.
    """
    for path in packed_files(directory):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(directory / path, package / path)


def packed_files(directory: Path) -> Iterator[Path]:
    """Yield the files of a directory that are packed, relative to it, but for what git ignores.

    Ray itself leaves that out, by the files of `IGNORING` that are among them.

    Raises:
        OSError: A folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(directory, onerror=fail, followlinks=True):
        here = Path(folder)
        inside = here.relative_to(directory)
        walked = [(directory / above).resolve() for above in (inside, *inside.parents)]
        folders[:] = [
            name
            for name in folders
            if not NOT_SENT.fullmatch(name)
            and not (here == directory and name in NOT_SENT_FROM_THE_TOP)
            and not any((here / name / sign).exists() for sign in ENVIRONMENT)
            # A link to a folder that this one is in, by links too, would be followed for ever.
            and not any(outer.is_relative_to((here / name).resolve()) for outer in walked)
        ]
        for name in names:
            path = inside / name
            hidden = name.startswith(".")
            secret = path.suffix != ".py" and NAMES_A_SECRET.search(name)
            if not (here / name).is_file():  # such as a link to nothing
                continue
            if name in IGNORING or (path.suffix in SENT and not hidden and not secret):
                yield path

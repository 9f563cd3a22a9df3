"""Which code trained a model: the versions of what it stands on, and its own commit."""

import importlib.metadata
import subprocess
from pathlib import Path

import irmas_dist

RECORDED_VERSIONS = (
    "irmas-dist",
    "torch",
    "ray",
    "numpy",
    "scipy",
    "soundfile",
    "soxr",
    "torchmetrics",
)


def versions() -> dict[str, str]:
    """Return the installed version of each package that may change a result."""
    return {name: importlib.metadata.version(name) for name in RECORDED_VERSIONS}


def commit() -> str | None:
    """Return the git commit of this package, with ``-dirty`` when files were changed since.

    Returns:
        None when the package is not in a git checkout of its own, or git is not there.
    """
    package = Path(irmas_dist.__file__).parent
    if not (package.parent / ".git").exists():
        return None
    # Without its files' modification times being refreshed: that would write into the checkout.
    command = ["git", "--no-optional-locks", "-C", str(package.parent)]
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run([*command, *describe], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None

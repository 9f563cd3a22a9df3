"""What made a model: versions of packages and the commit of the code."""

import importlib.metadata
import subprocess
from pathlib import Path

import irmas_dist

RECORDED_VERSIONS = ("irmas-dist", "torch", "ray", "numpy", "scipy", "soundfile", "soxr")
"""Packages whose version may change a result."""


def versions() -> dict[str, str]:
    """Return the version of each package that may change a result; unknown if not installed.

    Code that runs from a source tree, as that of a job may, has no version.
    """
    installed = {}
    for name in RECORDED_VERSIONS:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "unknown"
    return installed


def commit() -> str | None:
    """Return the git commit of this package, with ``-dirty`` when files differ from it.

    Returns:
        None when the package is not in its own git checkout, or git is not installed.
    """
    package = Path(irmas_dist.__file__).parent
    if not (package.parent / ".git").exists():
        return None
    # Without optional locks, which would refresh the index and so write into the checkout.
    command = ["git", "--no-optional-locks", "-C", str(package.parent), "describe", "--always",
               "--dirty", "--abbrev=40", "--exclude=*"]  # fmt: skip
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None

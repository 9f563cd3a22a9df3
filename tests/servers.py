"""Programs that tests run but pip does not install: skip without, unless they must be there."""

import os
import shutil

import pytest

REQUIRE = "IRMAS_REQUIRE_SERVERS"
"""Where this is 1, as in continuous integration, what would be skipped fails."""


def missing(*programs: str, root: bool = False) -> list[str]:
    """Return what of these is not there.

    Args:
        programs: Names of executables, looked for also where only root looks.
        root: Whether what only root may change is wanted, such as mounts and namespaces.
    """
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    found = [name for name in programs if shutil.which(name, path=path) is None]
    return found + (["the rights of root"] if root and os.geteuid() != 0 else [])


def required() -> bool:
    """Return whether everything has to be there."""
    return os.environ.get(REQUIRE) == "1"


def need(*programs: str, root: bool = False) -> None:
    """Skip a test, or a module of tests, unless all of these are there, as `missing` takes them."""
    lacking = missing(*programs, root=root)
    if not lacking:
        return
    reason = f"needs {', '.join(lacking)}"
    if required():
        pytest.fail(f"{reason}, and {REQUIRE} is 1", pytrace=False)
    pytest.skip(reason, allow_module_level=True)

"""Programs that tests run but pip does not install: skip without, unless they must be there."""

import os
import shutil

import pytest

REQUIRE = "IRMAS_REQUIRE_SERVERS"
"""Where this is 1, as in continuous integration, what would be skipped fails."""


def need(*programs: str, root: bool = False) -> None:
    """Skip a test, or a module of tests, unless all of these programs are installed.

    Args:
        programs: Names of executables, looked for also where only root looks.
        root: Whether the test changes what only root may, such as mounts and namespaces.
    """
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if root and os.geteuid() != 0:
        missing.append("the rights of root")
    if not missing:
        return
    reason = f"needs {', '.join(missing)}"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{reason}, and {REQUIRE} is 1", pytrace=False)
    pytest.skip(reason, allow_module_level=True)

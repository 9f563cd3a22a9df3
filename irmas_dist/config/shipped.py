"""Recipes and search spaces that ship with the package and are found by their names.

They are in ``configs/`` at the top of the source tree; ``irmas_dist/configs`` links there, and
is a real directory in a wheel.
"""

from pathlib import Path
from typing import Literal

from irmas_dist.errors import IrmasError

CONFIGS = Path(__file__).parents[1] / "configs"
"""Recipes, and in ``spaces`` the search spaces."""

Kind = Literal["recipe", "space"]


def shipped_names(kind: Kind) -> list[str]:
    """Return the names of what ships with the package, in alphabetical order."""
    return sorted(path.stem for path in _folder(kind).glob("*.yaml"))


def find_config(name: str | Path, kind: Kind) -> Path:
    """Return the file of a path, or else the shipped YAML file of this name.

    Args:
        name: ``han2016``, for example, or the path of a file.
        kind: Whether a recipe or a space is wanted.

    Raises:
        IrmasError: It is neither a file nor a shipped name.
    """
    path = Path(name).expanduser()
    if path.exists() and not path.is_dir():
        return path
    if str(name) in shipped_names(kind):
        return _folder(kind) / f"{name}.yaml"
    model = " or model directory" if kind == "recipe" else ""
    raise IrmasError(
        f"{name}: no such file{model}, and no {kind} of this name: there are "
        f"{', '.join(shipped_names(kind))}"
    )


def _folder(kind: Kind) -> Path:
    return CONFIGS if kind == "recipe" else CONFIGS / "spaces"

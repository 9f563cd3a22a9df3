"""A sweep's directory: what the sweep is, and that only one driver is at work there.

``sweep.json`` says what is searched, ``study.db`` is the Optuna study unless it is kept
elsewhere, ``trials`` holds the progress of unfinished trials, and at the end there are
``best.yaml``, ``trials.json`` and ``model``.
"""

import fcntl
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from irmas_dist import storage
from irmas_dist.config.base import Settings
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.space import Space, build_space

RECORD = "sweep.json"


class SweepRecord(Settings):
    """The content of ``sweep.json``."""

    identity: str
    """With which trials of this sweep are marked in the study."""
    name: str
    """Name of the study, and of the group of runs in W&B."""
    recipe: dict[str, Any]
    """What the space varies."""
    space: dict[str, Any]
    """What is searched."""
    settings: SweepSettings
    data: dict[str, str]
    """Fingerprints of the manifest and the features."""

    def digests(self) -> dict[str, str]:
        """Return by name what trials must have in common to be compared, each as a few digits."""
        recipe = {name: value for name, value in self.recipe.items() if name != "tracking"}
        parts = {"recipe": recipe, "space": self.space, "features": self.data}
        return {
            name: sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]
            for name, part in parts.items()
        }

    def load(self, origin: str) -> tuple[Recipe, Space]:
        """Return the recipe and the space.

        Raises:
            IrmasError: They do not fit this version.
        """
        try:
            recipe = Recipe.model_validate(self.recipe)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise IrmasError(f"{origin} cannot be used: {field}: {first['msg']}") from error
        return recipe, build_space(self.space, recipe, origin)


def read_record(out: Path) -> SweepRecord:
    """Read ``sweep.json``.

    Raises:
        IrmasError: There is no sweep here, or not one of this version.
    """
    place = out / RECORD
    if not place.exists():
        raise IrmasError(f"{out} is not a sweep: it has no {RECORD}")
    try:
        return SweepRecord.model_validate(storage.read_json(place))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise IrmasError(f"{place} cannot be used: {field}: {first['msg']}") from error


def require_new(out: Path) -> None:
    """Refuse a directory that holds a sweep.

    Raises:
        IrmasError: It does.
    """
    if (out / RECORD).exists():
        raise IrmasError(
            f"{out} holds a sweep: go on with it by --resume (with more --trials, if all are "
            "done), or choose another directory"
        )


def begin(
    out: Path, recipe: Recipe, space: Space, settings: SweepSettings, data: dict[str, str]
) -> SweepRecord:
    """Return the record of a new sweep, not yet written.

    Raises:
        IrmasError: There is a sweep in ``out``.
    """
    require_new(out)
    return SweepRecord(
        identity=uuid.uuid4().hex[:12],
        name=out.name,
        recipe=recipe.model_dump(mode="json"),
        space=space.describe(),
        settings=settings,
        data=data,
    )


def resume(
    out: Path, recipe: Recipe, space: Space, settings: SweepSettings, data: dict[str, str]
) -> SweepRecord:
    """Return the record of the sweep in ``out``, with new settings.

    Raises:
        IrmasError: There is none, or it searched something else.
    """
    record = read_record(out)
    same = {
        "recipe": record.recipe == recipe.model_dump(mode="json"),
        "space": record.space == space.describe(),
        "features": record.data == data,
    }
    for what, is_same in same.items():
        if not is_same:
            raise IrmasError(f"{out} holds a sweep with another {what}; choose another directory")
    return record.model_copy(update={"settings": settings})


def write_record(out: Path, record: SweepRecord) -> None:
    """Write ``sweep.json``."""
    storage.write_json(out / RECORD, record.model_dump(mode="json"))


@contextmanager
def only_driver(out: Path) -> Iterator[None]:
    """Be the only driver at work in a sweep's directory; the system ends this with the process.

    Raises:
        IrmasError: Another one is at work there.
    """
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise IrmasError(f"another process is at work on the sweep in {out}") from error
        yield


def is_driven(out: Path) -> bool:
    """Return whether a driver is at work in a sweep's directory."""
    place = out / ".lock"
    if not place.exists():
        return False
    with place.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def study_location(path: Path, record: SweepRecord) -> str:
    """Return where a sweep's study is kept."""
    return record.settings.study or str(path / "study.db")


def progress_directory(root: str, number: int) -> str:
    """Return where a trial's progress is kept."""
    return storage.join(root, f"{number:04d}")

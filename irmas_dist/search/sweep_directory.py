"""The sweep directory: the record of what is searched, and where trials are kept.

``sweep.json`` is the record, ``study.db`` the Optuna study unless that is stored elsewhere;
``trials`` holds checkpoints of unfinished trials, ``ends`` what W&B may lack of ended ones. A
finished sweep adds ``best.yaml``, ``trials.json`` and ``model``.
"""

import json
import uuid
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from irmas_dist import storage
from irmas_dist.config.base import Settings, first_problem, nested_differences
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.config.tracking import LONGEST_NAME, TrackingSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.storages import absolute_location, public_location
from irmas_dist.storage.results import SWEEP_FILE, directory_name
from irmas_dist.training.records import DataRecord, StoreRecord


class SweepRecord(Settings):
    """The content of ``sweep.json``."""

    identity: str = Field(pattern=r"^[0-9a-f]+$")
    """Marks the trials of this sweep in the study."""
    name: str
    """Name of the study."""
    recipe: dict[str, Any]
    """The recipe that the space varies."""
    space: dict[str, Any]
    """The search space."""
    settings: SweepSettings
    data: DataRecord
    """What its trials learn and validate on."""
    place: str = ""
    """Absolute path of the directory where it was last resumed."""

    @property
    def tracking(self) -> TrackingSettings:
        """How it is logged to W&B.

        Raises:
            IrmasError: Its settings do not fit this version.
        """
        logged = {"tracking": self.recipe.get("tracking", {})}
        return build_recipe(logged, {}, f"the recipe of sweep {self.name}").tracking

    @property
    def group(self) -> str:
        """Group of its runs in W&B."""
        return self.tracking.group or self.name[:LONGEST_NAME]

    def digests(self) -> dict[str, str]:
        """Return digests of what trials must have in common to be compared, by name."""
        recipe = {name: value for name, value in self.recipe.items() if name != "tracking"}
        parts = {"recipe": recipe, "space": self.space, "features": self.data.fingerprints()}
        return {
            name: sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]
            for name, part in parts.items()
        }

    def load(self, origin: str) -> tuple[Recipe, Space]:
        """Return the recipe and the space.

        Raises:
            IrmasError: They do not fit this version.
        """
        recipe = build_recipe(self.recipe, {}, origin)
        return recipe, build_space(self.space, recipe, origin)


def read_record(out: Path) -> SweepRecord:
    """Read ``sweep.json``.

    Raises:
        IrmasError: The directory holds no sweep, or one of another version.
    """
    path = out / SWEEP_FILE
    if not path.exists():
        raise IrmasError(f"{out} is not a sweep: it has no {SWEEP_FILE}")
    try:
        return SweepRecord.model_validate(storage.read_json(path))
    except ValidationError as error:
        raise IrmasError(f"{path} cannot be used: {first_problem(error)}") from error


OPTIONS = {"also": "--also", "init": "--init", "validated_on": "--validate-on"}
"""The options by which data come to a sweep beside its features, by their key in the record."""

HOW_TO_RESUME = "resume it with --resume (and more --trials, if all are done)"


def holds_same(out: Path, recipe: Recipe, space: Space, settings: SweepSettings) -> bool:
    """Return whether a directory holds a sweep of the same command.

    How it is logged may differ; its data are compared by `make_record`.

    Raises:
        IrmasError: It holds a sweep with another recipe or space, or with other settings.
    """
    if not (out / SWEEP_FILE).exists():
        return False
    earlier, now = read_record(out), _recorded(recipe, space, settings)
    given = _without_passwords(now["settings"])
    different = _different(earlier, now["recipe"], now["space"])
    different += [
        f"--{name.replace('_', '-')} {_shown(value)} rather than {_shown(getattr(given, name))}"
        for name, value in earlier.settings
        if value != getattr(given, name)
    ]
    if different:
        raise IrmasError(
            f"{out} holds a sweep with {', '.join(different)}: {HOW_TO_RESUME}, or choose "
            "another directory"
        )
    return True


def _shown(value: object) -> object:
    return "its default" if value is None else value


def _different(earlier: SweepRecord, recipe: dict[str, Any], space: dict[str, Any]) -> list[str]:
    """Return what differs of a sweep's recipe, but for how it is logged, and of its space."""
    ours, theirs = ({**one, "tracking": None} for one in (earlier.recipe, recipe))
    other = ["another space"] if earlier.space != space else []
    return nested_differences(ours, theirs) + other


def _recorded(recipe: Recipe, space: Space, settings: SweepSettings) -> dict[str, Any]:
    """Return a recipe, a space and settings as the record has them."""
    content = recipe.model_dump(mode="json")
    # Absolute, so that it is found and resumed from anywhere.
    content["tracking"]["directory"] = storage.absolute(content["tracking"]["directory"])
    located = settings.model_copy(update={
        "study": settings.study and absolute_location(settings.study),
        "warm_start": settings.warm_start and absolute_location(settings.warm_start),
        "storage": settings.storage and storage.absolute(settings.storage),
    })  # fmt: skip
    return {"recipe": content, "space": space.content(), "settings": located}


def _without_passwords(settings: SweepSettings) -> SweepSettings:
    return settings.model_copy(update={
        "study": settings.study and public_location(settings.study),
        "warm_start": settings.warm_start and public_location(settings.warm_start),
    })  # fmt: skip


def make_record(
    out: Path,
    recipe: Recipe,
    space: Space,
    settings: SweepSettings,
    data: DataRecord,
    resume: bool = False,
) -> SweepRecord:
    """Return the record of a new sweep, not yet written, or of a resumed one with new settings.

    Raises:
        IrmasError: The directory holds a sweep, or none to resume, or one with another recipe,
            space or features.
    """
    if not resume and (out / SWEEP_FILE).exists():
        raise IrmasError(f"{out} holds a sweep: {HOW_TO_RESUME}, or choose another directory")
    record = SweepRecord(
        identity=uuid.uuid4().hex[:12],
        name=directory_name(out),
        data=data,
        place=storage.real(str(out)),
        **_recorded(recipe, space, settings),
    )
    if not resume:
        return record
    earlier = read_record(out)
    _refuse_copy(out, earlier)
    if different := _different(earlier, record.recipe, record.space):
        raise IrmasError(
            f"{out} holds a sweep with {', '.join(different)}; choose another directory"
        )
    # The rest follows from these, the options and the recipe.
    ours, theirs = (
        one.model_dump(include={*StoreRecord.model_fields}) for one in (data, earlier.data)
    )
    if ours != theirs:
        raise IrmasError(f"{out} holds a sweep of other features; choose another directory")
    for key, option in OPTIONS.items():
        had, has = getattr(earlier.data, key), getattr(data, key)
        if had != has:
            given = "with other" if had and has else "with" if had else "without"
            raise IrmasError(
                f"{out} holds a sweep {given} {option}: resume it with the same, in the same "
                "order, or choose another directory"
            )
    directory = earlier.tracking.directory
    tracking = {**record.recipe["tracking"], "directory": directory}
    warm_start = record.settings.warm_start or earlier.settings.warm_start
    return earlier.model_copy(update={
        "place": record.place,
        "recipe": {**earlier.recipe, "tracking": tracking},
        "settings": record.settings.model_copy(update={"warm_start": warm_start}),
    })  # fmt: skip


def _refuse_copy(out: Path, record: SweepRecord) -> None:
    """Refuse to resume a copy of a sweep, whose trials have the W&B runs of the original's."""
    original = Path(record.place)
    if not record.place or not (original / SWEEP_FILE).exists() or original.samefile(out):
        return
    if read_record(original).identity == record.identity:
        raise IrmasError(
            f"{out} is a copy of the sweep {original}, and new trials of both would be logged to "
            "the same W&B runs: resume that one, or delete its directory"
        )


def write_record(out: Path, record: SweepRecord) -> None:
    """Write ``sweep.json``, without passwords of databases."""
    public = record.model_copy(update={"settings": _without_passwords(record.settings)})
    storage.write_json(out / SWEEP_FILE, public.model_dump(mode="json"))


def study_location(path: Path, record: SweepRecord) -> str:
    """Return the storage of a sweep's study."""
    return record.settings.study or str(path / "study.db")


def trials_storage(out: Path, record: SweepRecord) -> str:
    """Return the path or URL below which Tune and the trials write, of this sweep alone."""
    if record.settings.storage:
        return storage.join(record.settings.storage, record.identity)
    return storage.absolute(out)


def trials_root(out: Path, record: SweepRecord) -> str:
    """Return the path or URL below which the trials of a sweep save their checkpoints."""
    return storage.join(trials_storage(out, record), "trials")


def trial_directory(root: str, number: int) -> str:
    """Return the path or URL of a trial's checkpoints."""
    return storage.join(root, f"{number:04d}")

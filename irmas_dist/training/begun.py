"""What a model directory holds before a training: a finished model, or an unfinished training."""

import re
import secrets
from typing import TYPE_CHECKING, Any

from irmas_dist import storage
from irmas_dist.config.base import nested_differences
from irmas_dist.errors import IrmasError, listed
from irmas_dist.storage.results import BEGUN_FILE, MODEL_FILE, holds, progress_directory
from irmas_dist.training.records import TrainingInputs

if TYPE_CHECKING:
    from irmas_dist.training.model_description import ModelDescription

ADVICE = "delete it, or choose another directory"


def seed_directory(out: str, seed: int) -> str:
    """Return the directory of one of the models that a training with several seeds joins."""
    return storage.join(out, f"seed-{seed}")


def has_seeds(out: str) -> bool:
    """Return whether a training with several seeds has begun in a directory."""
    files = storage.list_files(out, recursive=True)
    return any(re.match(r"seed-\d+/", file) for file in files)


def finished_model(
    out: str, settings: dict[str, Any], inputs: TrainingInputs
) -> "ModelDescription | None":
    """Return the finished model in ``out``, if there is one.

    Raises:
        IrmasError: It is of another recipe, of other data, or not a single trained model.
    """
    if not holds(out, MODEL_FILE):
        return None
    from irmas_dist.training.model_description import read_description

    finished = read_description(out)
    if finished.members:
        raise IrmasError(f"{out} holds an ensemble; {ADVICE}")
    if finished.adapted is not None:
        raise IrmasError(f"{out} holds an adapted model; {ADVICE}")
    what = f"{out} holds a model"
    _require_same(what, finished.recipe, finished.data.inputs, settings, inputs, finished=True)
    return finished


def record_of_training(
    out: str, settings: dict[str, Any], inputs: TrainingInputs
) -> dict[str, Any]:
    """Return the record of the training in ``out``, a new one or that of an interrupted run.

    Raises:
        IrmasError: The interrupted one has epochs to lose, and another recipe or other data.
    """
    begun = storage.join(out, BEGUN_FILE)
    about = {
        "recipe": settings, "data": inputs.model_dump(), "run_id": secrets.token_hex(4),
        "runs": storage.absolute(settings["tracking"]["directory"]),
    }  # fmt: skip
    if storage.exists(begun):
        found: dict[str, Any] = storage.read_json(begun)
        what = f"{out} holds an unfinished training"
        with storage.damage_reported(begun, ADVICE):
            try:
                earlier = TrainingInputs.model_validate(found["data"])
                _require_same(what, found["recipe"], earlier, settings, inputs)
            except IrmasError:
                if has_epochs(out):
                    raise
                return about
            for needed in ("run_id", "runs"):  # Of the W&B run, which is to be resumed.
                found[needed]
        return found
    return about


def has_epochs(out: str) -> bool:
    """Return whether an unfinished training in ``out`` saved an epoch, even one that is damaged.

    Of one that did not, nothing is lost if another takes its place.
    """
    from irmas_dist.training.checkpoint import checkpoints

    return bool(checkpoints(progress_directory(out)))


def _require_same(
    what: str,
    recipe: dict[str, Any],
    found: TrainingInputs,
    settings: dict[str, Any],
    inputs: TrainingInputs,
    *,
    finished: bool = False,
) -> None:
    """Refuse what was made with another recipe, or from other clips, labels or groups."""
    # How it is logged does not change what is trained.
    ours, theirs = ({**one, "tracking": None} for one in (recipe, settings))
    if differ := nested_differences(ours, theirs):
        weights = "; --init starts another from its weights" if finished else ""
        raise IrmasError(f"{what} of another recipe: {listed(differ, 3)}; {ADVICE}{weights}")
    if found.store != inputs.store:
        raise IrmasError(f"{what} of other features ({found.store}, not {inputs.store}); {ADVICE}")
    if found.also != inputs.also:
        raise IrmasError(f"{what} that learns other further stores, or by other weights; {ADVICE}")
    if found.init != inputs.init:
        raise IrmasError(f"{what} that starts from another model, or from none; {ADVICE}")

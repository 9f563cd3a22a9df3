"""The training loop around a Learner, in whatever process it runs: epochs and checkpoints."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from irmas_dist import storage
from irmas_dist.config.training import LearnerSettings, WorkerSettings
from irmas_dist.errors import IrmasError, StoreError
from irmas_dist.evaluation.scores import Scores
from irmas_dist.storage.results import progress_directory
from irmas_dist.training.checkpoint import (
    Pace,
    checkpoints,
    epoch_directory,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    saved_history,
    snapshot,
)
from irmas_dist.training.describe import describe
from irmas_dist.training.learner import Learner
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.model_directory import pack_weights
from irmas_dist.training.precision import is_gpu_failure

OnEpoch = Callable[[dict[str, float]], None]
"""Called in the driver with the metrics of each epoch."""

Trained = tuple[bytes, ModelDescription, Scores]
"""Packed weights, description, and scores of the validation mixtures."""


class WorkerLostError(Exception):
    """A worker or its node was lost; the message says what is known of the reason."""


@dataclass(frozen=True)
class Attempt:
    """One start of a training's workers, which each of them receives.

    Attributes:
        name: Of the directory of its checkpoints, see `irmas_dist.training.checkpoint`.
        progress: Path or URL of the directory of all attempts.
        settings: How to train.
        recipe: All settings, to be recorded in the model.
        workers: Number of workers and their resources.
    """

    name: str
    progress: str
    settings: LearnerSettings
    recipe: dict[str, Any]
    workers: WorkerSettings


def resume(learner: Learner, progress: str) -> Iterator[str]:
    """Load the newest undamaged checkpoint, if there is one; yield lines that say so."""
    damaged: list[str] = []
    newest = newest_checkpoint(progress, damaged.append)
    yield from damaged
    if newest:
        load_checkpoint(newest, learner)
        yield f"resuming after epoch {learner.epoch}"


def latest_history(out: str) -> list[dict[str, float]]:
    """Return the metrics of the epochs from which the training in ``out`` will resume."""
    return saved_history(newest_checkpoint(progress_directory(out), lambda line: None))


def run_epochs(
    learner: Learner, attempt: Attempt, pace: Pace | None = None
) -> Iterator[dict[str, float]]:
    """Run the remaining epochs, and yield the metrics of each.

    Before that, rank 0 saves a checkpoint, and deletes the oldest one when there are more than are
    kept. Those of earlier attempts, too, go once as many later ones are kept. Where epochs are
    short, it saves, and yields what was not yet yielded, after some of them and after the last
    only, see `Pace`; an interruption saves the last one, and so does a failure of the next.
    """
    begun = learner.epoch  # A later checkpoint could not be read then, but may be readable again.
    earlier = checkpoints(attempt.progress) if learner.rank == 0 else []
    saved: deque[tuple[int, str]] = deque()
    waiting: list[dict[str, float]] = []
    unsaved: dict[str, Any] | None = None
    pace = pace or Pace()

    def save(state: dict[str, Any] | None, epoch: int) -> None:
        saved.append((epoch, epoch_directory(attempt.progress, attempt.name, epoch)))
        save_checkpoint(saved[-1][1], learner, state)
        if len(saved) > attempt.workers.checkpoints_to_keep:
            storage.remove_directory(saved.popleft()[1])
        enough = len(saved) == attempt.workers.checkpoints_to_keep
        kept_from = saved[0][0] if enough else begun
        while earlier and earlier[0][0] < kept_from:
            storage.remove_directory(earlier.pop(0)[1])

    while not learner.finished:
        try:
            metrics = learner.run_epoch()
        except (KeyboardInterrupt, IrmasError, MemoryError, RuntimeError) as error:
            if unsaved is not None:  # The Learner itself is within the next epoch.
                # Of a GPU that has failed, nothing can be read any more.
                with suppress(RuntimeError) if isinstance(error, RuntimeError) else nullcontext():
                    save(unsaved, unsaved["epoch"])
            if isinstance(error, IrmasError):
                yield from waiting
            raise
        waiting.append(metrics)
        if not (pace.due or learner.finished):
            unsaved = snapshot(learner) if learner.rank == 0 else None
            continue
        unsaved = None
        with pace.spending():
            if learner.rank == 0:
                save(None, learner.epoch)
            yield from waiting
        waiting.clear()


def finish(learner: Learner, recipe: dict[str, Any]) -> Trained:
    """Return the best epoch's model; every worker must call this."""
    description, validation = describe(learner, recipe)
    return pack_weights(learner.network), description, validation


def as_failure(error: BaseException) -> IrmasError:
    """Return the error that says in one line why training failed."""
    own = isinstance(error, IrmasError)
    text = str(error) if own else f"{type(error).__name__}: {error}".splitlines()[0]
    kind = StoreError if isinstance(error, StoreError) else IrmasError
    advice = "; --no-gpu trains on CPUs" if is_gpu_failure(error) else ""
    return kind(f"training failed: {text}{advice}")

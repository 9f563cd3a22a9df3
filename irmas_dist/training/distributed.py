"""Training with Ray: one worker is an actor, several are Ray Train's; lost ones are replaced.

A lost worker or node costs the epoch in progress: training restarts from the last checkpoint, up
to the configured number of times. This is done here rather than by an actor's ``max_restarts`` or
Ray Train's `FailureConfig`, which wait without a message for resources that may never come; and
the latter cannot tell a lost worker from a loss that is not finite.
"""

from typing import Any

import ray

from irmas_dist import storage
from irmas_dist.cluster.resources import wait_for_resources
from irmas_dist.config.training import LearnerSettings, WorkerSettings
from irmas_dist.storage.results import progress_directory
from irmas_dist.terminal import say
from irmas_dist.training.checkpoint import checkpoints, new_attempt
from irmas_dist.training.data import TrainingData
from irmas_dist.training.loop import Attempt, OnEpoch, Trained, WorkerLostError
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.model_directory import save_model


def train_distributed(
    data: TrainingData,
    settings: LearnerSettings,
    recipe: dict[str, Any],
    out: str,
    workers: WorkerSettings,
    on_epoch: OnEpoch,
) -> ModelDescription:
    """Train on workers of the running Ray and write the model directory.

    An interrupted training in ``out`` is resumed from its last checkpoint.

    Args:
        data: What to train on and validate with.
        settings: How to train.
        recipe: All settings, to be recorded in the model.
        out: Path or URL of the model directory, which all nodes must reach.
        workers: Number of workers and their resources.
        on_epoch: Called in this process with the metrics of each epoch.

    Raises:
        IrmasError: The cluster lacks the resources for the workers, or training failed.
        WorkerLostError: Workers were lost more often than training is to resume.
    """
    storage.make_directory(out)
    progress = progress_directory(out)
    weights, description, validation = _train(
        ray.put(data), progress, settings, recipe, workers, on_epoch
    )
    description = save_model(out, weights, description, validation, data.all_known)
    storage.remove_directory(progress)
    return description


def _train(
    data: Any,
    progress: str,
    settings: LearnerSettings,
    recipe: dict[str, Any],
    workers: WorkerSettings,
    on_epoch: OnEpoch,
) -> Trained:
    """Start the workers, again when some were lost, and return the model."""
    # Imported here: Ray Train takes seconds, which one worker saves.
    if workers.count == 1:
        from irmas_dist.training.actor import train_in_actor as start
    else:
        from irmas_dist.training.ray_train import train_in_ray_train as start
    for retries_left in reversed(range(workers.retries + 1)):
        wait_for_resources(workers)
        attempt = Attempt(new_attempt(progress), progress, settings, recipe, workers)
        try:
            return start(data, attempt, on_epoch)
        except WorkerLostError as error:
            if not retries_left:
                often = f"{workers.retries + 1} times, the last time" if workers.retries else "once"
                raise WorkerLostError(f"training lost its workers {often}: {error}") from error
            retries = "1 retry" if retries_left == 1 else f"{retries_left} retries"
            saved = checkpoints(progress)
            begin = "resuming from the last checkpoint" if saved else "starting again"
            say(f"a worker was lost ({error}); {begin} ({retries} left)")
    raise AssertionError("unreachable: the last attempt returns or raises")

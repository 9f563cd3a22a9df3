"""One worker on a cluster: a plain Ray actor around the Learner, without Ray Train."""

from collections.abc import Iterator
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from irmas_dist.errors import first_line
from irmas_dist.terminal import say
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import Learner
from irmas_dist.training.loop import (
    Attempt,
    OnEpoch,
    Trained,
    WorkerLostError,
    as_failure,
    finish,
    resume,
    run_epochs,
)


class SingleWorker:
    """The actor."""

    def train(
        self, data: TrainingData, attempt: Attempt
    ) -> Iterator[str | dict[str, float] | Trained]:
        """Yield messages, the metrics of each epoch, and at last the model."""
        torch.set_num_threads(max(int(attempt.workers.cpus), 1))
        learner = Learner(data, attempt.settings, device="cuda" if attempt.workers.gpu else "cpu")
        # Not `yield from`, for Ray sends to generators, and what these yield from may take nothing.
        for message in resume(learner, attempt.progress):  # noqa: UP028
            yield message
        for metrics in run_epochs(learner, attempt):  # noqa: UP028
            yield metrics
        yield finish(learner, attempt.recipe)


def train_in_actor(data: Any, attempt: Attempt, on_epoch: OnEpoch) -> Trained:
    """Run an attempt in an actor.

    Args:
        data: Reference to the training data.
        attempt: What to train.
        on_epoch: Called in this process with the metrics of each epoch.

    Raises:
        IrmasError: Training failed.
        WorkerLostError: The worker or its node was lost.
    """
    workers = attempt.workers
    actor = (
        ray.remote(SingleWorker)
        .options(num_cpus=workers.cpus, num_gpus=int(bool(workers.gpu)))
        .remote()
    )
    try:
        for reference in actor.train.remote(data, attempt):
            match ray.get(reference):
                case str(message):
                    say(message)
                case dict(metrics):
                    on_epoch(metrics)
                case trained:
                    return trained
    except RayTaskError as error:
        raise as_failure(error.cause) from error
    except RayError as error:
        raise WorkerLostError(first_line(error)) from error
    finally:
        # It may be out of reach rather than dead, and must not train beside the next one.
        ray.kill(actor)
    raise AssertionError("unreachable: the last that the actor yields is the model")

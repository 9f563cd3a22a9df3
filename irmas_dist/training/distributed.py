"""Ray Train around the Learner: data-parallel workers, checkpoints, and one model at the end.

A lost worker or node costs the epoch in progress: training restarts from the last checkpoint, up
to the configured number of times. This is done here rather than by Ray Train's `FailureConfig`,
which cannot tell a lost worker from a loss that is not finite, and waits without a message for
resources that may never come.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Literal

import ray
import torch
from ray import train
from ray.train import Checkpoint, CheckpointConfig, CheckpointUploadMode, RunConfig, ScalingConfig
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer, get_device, prepare_model
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.markup import escape

from irmas_dist import storage
from irmas_dist.cluster.resources import wait_for_resources
from irmas_dist.config.training import LearnerSettings, WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import Scores
from irmas_dist.terminal import say
from irmas_dist.training.checkpoint import (
    epoch_directory,
    load_checkpoint,
    new_attempt,
    newest_checkpoint,
    save_checkpoint,
)
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import SELECTED_BY, Learner
from irmas_dist.training.model_directory import ModelDescription, describe, pack_weights, save_model

RUN_NAME = "progress"
"""Directory of the checkpoints, inside the model directory until the model is finished."""

RESIZE_EVERY_S = 30.0
"""How often an elastic training looks for new nodes. Each change of the number of workers costs
the epoch in progress, so that nodes which join together should cause a single change."""

DRAIN_EVERY_S = 0.2
"""How often the driver handles the events of the workers."""

OnEpoch = Callable[[dict[str, float]], None]
"""Called in the driver with the metrics of each epoch."""

Trained = tuple[bytes, ModelDescription, Scores]
"""Packed weights, description, and scores of the validation mixtures."""


def train_distributed(
    data: TrainingData,
    settings: LearnerSettings,
    recipe: dict[str, Any],
    out: str,
    workers: WorkerSettings,
    on_epoch: OnEpoch,
) -> ModelDescription:
    """Train with Ray Train and write the model directory.

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
    """
    storage.make_directory(out)
    progress = storage.join(storage.absolute(out), RUN_NAME)
    events = WorkerEvents()
    config = {"data": ray.put(data), "settings": settings, "recipe": recipe,
              "progress": progress, "workers": workers, "events": events}  # fmt: skip
    try:
        weights, description, validation = _fit(config, on_epoch)
    finally:
        events.close()
    save_model(out, weights, description, validation)
    storage.remove_directory(progress)
    return description


class WorkerEvents:
    """Events that workers send to the driver; the object itself travels to the workers.

    Attributes:
        failure: In the driver, why training must end, if a worker sent a reason.
    """

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # On the driver's node: the queue must survive the loss of any other.
        self._queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.failure: str | None = None

    def send(self, kind: Literal["epoch", "message", "failure"], content: Any) -> None:
        """Send an epoch's metrics, a message to print, or the reason why training must end."""
        self._queue.put((kind, content))

    def drain(self, on_epoch: OnEpoch) -> None:
        """Handle all events sent so far."""
        while not self._queue.empty():
            kind, content = self._queue.get()
            if kind == "epoch":
                on_epoch(content)
            elif kind == "message":
                say(escape(content))
            else:
                self.failure = self.failure or content

    @contextmanager
    def draining(self, on_epoch: OnEpoch) -> Iterator[None]:
        """Drain in a thread, for the last time on leaving the context."""
        ended = Event()

        def work() -> None:
            while not ended.wait(DRAIN_EVERY_S):
                self.drain(on_epoch)
            self.drain(on_epoch)

        thread = Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        """Release the queue."""
        self._queue.shutdown()


def _fit(config: dict[str, Any], on_epoch: OnEpoch) -> Trained:
    """Start the workers, again when some were lost, and return what rank 0 returns."""
    workers: WorkerSettings = config["workers"]
    events: WorkerEvents = config["events"]
    for retries_left in reversed(range(workers.retries + 1)):
        wait_for_resources(workers)
        attempt = new_attempt(config["progress"])
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config=config | {"attempt": attempt},
            scaling_config=ScalingConfig(
                num_workers=workers.count
                if workers.min_workers is None
                else (workers.min_workers, workers.count),
                elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
                use_gpu=bool(workers.gpu),
                resources_per_worker=workers.resources,
            ),
            run_config=RunConfig(
                name=attempt,
                storage_path=config["progress"],
                checkpoint_config=CheckpointConfig(
                    num_to_keep=workers.checkpoints_to_keep, checkpoint_score_attribute=SELECTED_BY
                ),
            ),
        )
        try:
            with events.draining(on_epoch):
                result: Trained = trainer.fit().return_value
        except TrainingFailedError as error:
            if events.failure:
                raise IrmasError(events.failure) from error
            if not retries_left:
                reason = str(error).strip().splitlines()[-1]
                raise IrmasError(
                    f"training lost its workers {workers.retries + 1} times, the last time with: "
                    f"{reason}; the same command resumes from the last checkpoint"
                ) from error
            retries = "1 retry" if retries_left == 1 else f"{retries_left} retries"
            say(f"a worker was lost; resuming from the last checkpoint ({retries} left)")
        else:
            return result
    raise AssertionError("unreachable: the last attempt returns or raises")


def _train_worker(config: dict[str, Any]) -> Trained:
    """Run one worker; all return the same, and Ray Train passes on what rank 0 returns."""
    context = train.get_context()
    try:
        return _run(config, context.get_world_rank(), context.get_world_size())
    except Exception as error:
        # When a peer is lost, Gloo raises a plain RuntimeError and NCCL one of torch's own.
        is_peers = type(error) is RuntimeError or isinstance(error, torch.distributed.DistError)
        if context.get_world_size() == 1 or not is_peers:
            own = isinstance(error, IrmasError)
            text = str(error) if own else f"{type(error).__name__}: {error}".splitlines()[0]
            config["events"].send("failure", f"training failed: {text}")
        raise


def _run(config: dict[str, Any], rank: int, workers: int) -> Trained:
    requested: WorkerSettings = config["workers"]
    torch.set_num_threads(max(int(requested.cpus), 1))
    events, progress = config["events"], config["progress"]
    learner = Learner(
        ray.get(config["data"]),
        config["settings"],
        device=get_device(),
        rank=rank,
        workers=workers,
        wrap=lambda network: prepare_model(
            network,
            move_to_device=False,
            parallel_strategy_kwargs={"gradient_as_bucket_view": True},
        ),
    )
    # One worker chooses, so that all resume from the same epoch.
    newest = None
    if rank == 0:
        newest = newest_checkpoint(progress, lambda line: events.send("message", line))
    if checkpoint := broadcast_from_rank_zero(newest):
        load_checkpoint(checkpoint, learner)
    if rank == 0 and (checkpoint or requested.min_workers):
        start = f"resuming after epoch {learner.epoch}" if checkpoint else "starting"
        share = f" on {workers} of {requested.count} workers" if requested.min_workers else ""
        events.send("message", start + share)
    while not learner.finished:
        metrics = learner.run_epoch()
        if rank > 0:
            train.report({})
            continue
        directory = epoch_directory(progress, config["attempt"], learner.epoch)
        save_checkpoint(directory, learner)
        filesystem, path = storage.resolve(directory)
        train.report(
            {SELECTED_BY: metrics[SELECTED_BY], "epoch": learner.epoch},
            checkpoint=Checkpoint(path, filesystem),
            # It was written to its final place, atomically.
            checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
        )
        events.send("epoch", metrics)
    description, validation = describe(learner, config["recipe"])
    # As bytes: Ray Train does not return tensors.
    return pack_weights(learner.network), description, validation

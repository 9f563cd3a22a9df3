"""Ray Train around the Learner: data-parallel workers, checkpoints, and one model at the end.

A lost worker or node costs the epoch it was in: training starts again from the last checkpoint,
as often as is allowed. That is done here rather than by Ray Train's `FailureConfig`, which does
not tell a lost worker from a loss that is no number, and waits in silence for room that may
never come.
"""

from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

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
    load_progress,
    new_attempt,
    newest_progress,
    save_progress,
)
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import SELECTED_BY, Learner
from irmas_dist.training.model_directory import ModelDescription, describe, pack_weights, save_model

RUN_NAME = "progress"
"""Where checkpoints are kept, inside the model directory until the model is done."""

RESIZE_EVERY_S = 30.0
"""How often an elastic training looks for nodes that have joined. Each change of the number of
workers costs the epoch it falls into, so that nodes which join together should count once."""

LISTEN_EVERY_S = 0.2
"""How soon the driver hears what a worker tells."""


def train_distributed(
    task: TrainingData,
    settings: LearnerSettings,
    recipe: dict[str, Any],
    out: str,
    workers: WorkerSettings,
    on_epoch: Callable[[dict[str, float]], None],
) -> ModelDescription:
    """Train with Ray Train and write the model directory.

    Run again with the same ``out``, it goes on from the last checkpoint there.

    Args:
        task: What to learn.
        settings: How to learn it.
        recipe: All settings, as they are to be recorded in the model.
        out: Path or URL of the model directory, which all nodes must reach.
        workers: How many workers, with what.
        on_epoch: Called in this process with the metrics of each epoch.

    Raises:
        IrmasError: The cluster has no room for the workers, or training failed.
    """
    storage.make_directory(out)
    progress = storage.join(storage.absolute(out), RUN_NAME)
    with WorkerEvents(on_epoch) as ear:
        config = {
            "task": ray.put(task),
            "settings": settings,
            "recipe": recipe,
            "progress": progress,
            "workers": workers,
            "queue": ear.queue,
        }
        weights, description, validation = _fit(config, workers, ear)
    save_model(out, weights, description, validation)
    storage.remove_directory(progress)
    return description


def _fit(
    config: dict[str, Any], workers: WorkerSettings, ear: "WorkerEvents"
) -> tuple[bytes, ModelDescription, Scores]:
    """Start the workers, again when some were lost, and return what rank 0 returns."""
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
                use_gpu=workers.gpu,
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
            result: tuple[bytes, ModelDescription, Scores] = trainer.fit().return_value
        except TrainingFailedError as error:
            if failure := ear.failure():
                raise IrmasError(failure) from error
            if not retries_left:
                reason = str(error).strip().splitlines()[-1]
                raise IrmasError(
                    f"training lost its workers {workers.retries + 1} times, the last time with: "
                    f"{reason}; the same command goes on from the last checkpoint"
                ) from error
            again = "once more" if retries_left == 1 else f"{retries_left} times more"
            say(f"a worker was lost; going on from the last checkpoint, as it may {again}")
        else:
            return result
    raise AssertionError("unreachable: the last attempt returns or raises")


def _train_worker(config: dict[str, Any]) -> tuple[bytes, ModelDescription, Scores]:
    """One worker's whole run; all return the same, and Ray Train hands on rank 0's."""
    context = train.get_context()
    try:
        return _run(config, context.get_world_rank(), context.get_world_size())
    except Exception as error:
        if not _is_of_a_lost_peer(error, context.get_world_size()):
            ours = isinstance(error, IrmasError)
            text = str(error) if ours else f"{type(error).__name__}: {error}".splitlines()[0]
            config["queue"].put(("failure", f"training failed: {text}"))
        raise


def _run(config: dict[str, Any], rank: int, workers: int) -> tuple[bytes, ModelDescription, Scores]:
    planned: WorkerSettings = config["workers"]
    torch.set_num_threads(max(int(planned.cpus), 1))
    send, progress = config["queue"].put, config["progress"]
    learner = Learner(
        ray.get(config["task"]),
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
    # One worker chooses, so that all go on from the same epoch.
    found = newest_progress(progress, lambda line: send(("note", line))) if rank == 0 else None
    if last := broadcast_from_rank_zero(found):
        load_progress(last, learner)
    if rank == 0 and (last or planned.min_workers):
        begun = f"going on after epoch {learner.epoch}" if last else "beginning"
        spread = f" on {workers} of {planned.count} workers" if planned.min_workers else ""
        send(("note", begun + spread))
    while not learner.finished:
        metrics = learner.run_epoch()
        if rank > 0:
            train.report({})
            continue
        directory = epoch_directory(progress, config["attempt"], learner.epoch)
        save_progress(directory, learner)
        filesystem, path = storage.resolve(directory)
        train.report(
            {SELECTED_BY: metrics[SELECTED_BY], "epoch": learner.epoch},
            checkpoint=Checkpoint(path, filesystem),
            # It lies where it is to be kept, written beside and renamed.
            checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
        )
        send(("epoch", metrics))
    description, validation = describe(learner, config["recipe"])
    # As bytes: Ray Train hands no tensors back.
    return pack_weights(learner.network), description, validation


def _is_of_a_lost_peer(error: Exception, workers: int) -> bool:
    """Return whether an error may be no fault of this worker: another one is gone.

    Gloo says so by a plain RuntimeError, NCCL by one of torch.distributed's own.
    """
    return workers > 1 and (
        type(error) is RuntimeError or isinstance(error, torch.distributed.DistError)
    )


class WorkerEvents:
    """Hears what workers tell: an epoch's metrics, a note for people, the failure that ends it.

    Args:
        on_epoch: Called with the metrics of each epoch.
    """

    def __init__(self, on_epoch: Callable[[dict[str, float]], None]) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # On this node: if another one is lost, the queue must not be lost with it.
        self.queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._on_epoch = on_epoch
        self._failure: str | None = None
        self._one_at_a_time = Lock()
        self._ended = Event()
        self._listener = Thread(target=self._listen)

    def __enter__(self) -> "WorkerEvents":
        self._listener.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._listener.join()
        self.queue.shutdown()

    def failure(self) -> str | None:
        """Return why training must end, if a worker said so."""
        self.drain()
        return self._failure

    def _listen(self) -> None:
        while not self._ended.wait(LISTEN_EVERY_S):
            self.drain()
        self.drain()

    def drain(self) -> None:
        """Take all messages that are there."""
        with self._one_at_a_time:
            while not self.queue.empty():
                kind, content = self.queue.get()
                if kind == "epoch":
                    self._on_epoch(content)
                elif kind == "note":
                    say(escape(content))
                else:
                    self._failure = self._failure or content

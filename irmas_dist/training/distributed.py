"""Ray Train around the Learner: data-parallel workers, checkpoints, and one model at the end."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import ray
from pydantic import Field
from ray import train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.queue import Empty, Queue

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import Scores
from irmas_dist.settings import Settings
from irmas_dist.training.checkpoint import (
    ModelDescription,
    describe,
    load_progress,
    pack_weights,
    save_model,
    save_progress,
)
from irmas_dist.training.learner import SELECTED_BY, Learner, LearnerSettings
from irmas_dist.training.task import Task

RUN_NAME = "progress"
"""Where Ray Train keeps checkpoints, inside the model directory until the model is done."""


class WorkerSettings(Settings):
    """How training is spread."""

    count: int = Field(1, ge=1)
    """Data-parallel workers."""
    cpus: float = Field(1.0, gt=0.0)
    """CPUs of each worker."""
    gpu: bool = False
    """Whether each worker has a GPU."""
    retries: int = Field(3, ge=0)
    """How often training goes on from its last checkpoint after a worker or node was lost."""


def train_distributed(
    task: Task,
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
        out: Path or URL of the model directory.
        workers: How many workers, with what.
        on_epoch: Called in this process with the metrics of each epoch.

    Raises:
        IrmasError: The cluster cannot hold the workers, or training failed.
    """
    _check_resources(workers)
    storage.make_directory(out)
    queue = Queue(actor_options={"num_cpus": 0})
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={
            "task": ray.put(task),
            "settings": settings,
            "recipe": recipe,
            "queue": queue,
        },
        scaling_config=ScalingConfig(
            num_workers=workers.count,
            use_gpu=workers.gpu,
            resources_per_worker={"CPU": workers.cpus, **({"GPU": 1} if workers.gpu else {})},
        ),
        run_config=RunConfig(
            name=RUN_NAME,
            storage_path=storage.absolute(out),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=workers.retries),
        ),
    )
    ended = Event()
    listener = Thread(target=_listen, args=(queue, ended, on_epoch))
    listener.start()
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise IrmasError(f"training failed: {_reason(error)}") from error
    finally:
        ended.set()
        listener.join()
        queue.shutdown()
    weights, description, validation = result.return_value
    save_model(out, weights, description, validation)
    storage.remove_directory(storage.join(out, RUN_NAME))
    return description


def _train_worker(config: dict[str, Any]) -> tuple[bytes, ModelDescription, Scores]:
    """One worker's whole run; all return the same, and Ray Train hands on rank 0's."""
    context = train.get_context()
    rank = context.get_world_rank()
    device = get_device()
    learner = Learner(
        ray.get(config["task"]),
        config["settings"],
        device=device,
        rank=rank,
        workers=context.get_world_size(),
        wrap=lambda network: prepare_model(network, move_to_device=False),
    )
    if checkpoint := train.get_checkpoint():
        with checkpoint.as_directory() as directory:
            load_progress(Path(directory), learner)
    while not learner.finished:
        metrics = learner.run_epoch()
        if rank == 0:
            config["queue"].put(metrics)
            with tempfile.TemporaryDirectory() as directory:
                save_progress(Path(directory), learner)
                train.report(
                    {SELECTED_BY: metrics[SELECTED_BY], "epoch": learner.epoch},
                    checkpoint=Checkpoint.from_directory(directory),
                )
        else:
            train.report({})
    description, validation = describe(learner, config["recipe"])
    # As bytes: Ray Train hands no tensors back.
    return pack_weights(learner.network), description, validation


def _listen(queue: Queue, ended: Event, on_epoch: Callable[[dict[str, float]], None]) -> None:
    """Hand on metrics until training has ended and the queue is empty."""
    while True:
        try:
            on_epoch(queue.get(timeout=0.2))
        except Empty:
            if ended.is_set():
                return


def _check_resources(workers: WorkerSettings) -> None:
    """Refuse at once what the cluster as it is can never hold."""
    there = ray.cluster_resources()
    wanted = {"CPU": workers.count * workers.cpus, "GPU": float(workers.count * workers.gpu)}
    for kind, amount in wanted.items():
        if amount > there.get(kind, 0):
            raise IrmasError(
                f"{workers.count} workers need {amount:g} {kind}s and the cluster has "
                f"{there.get(kind, 0):g}; ask for fewer workers, or add nodes"
            )


def _reason(error: TrainingFailedError) -> str:
    """Return the first worker's own words, without the traceback around them."""
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        cause = failure.__cause__ or failure
        lines = [line for line in str(cause).splitlines() if line.strip()]
        if lines:
            return lines[-1].removeprefix("irmas_dist.errors.IrmasError: ")
    return str(error).strip().splitlines()[-1]

"""Several workers: Ray Train around the Learner.

Checkpoints are the `irmas_dist.training.loop`'s, and Ray Train is not told of them: it would only
delete old ones.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal

import ray
import torch
from ray import train
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer, get_device, prepare_model
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from irmas_dist.cluster.runtime import own_interrupts
from irmas_dist.errors import IrmasError, is_out_of_memory, last_line
from irmas_dist.terminal import say
from irmas_dist.training.checkpoint import load_checkpoint, newest_checkpoint
from irmas_dist.training.learner import DATA_PARALLEL, Learner
from irmas_dist.training.loop import (
    Attempt,
    OnEpoch,
    Trained,
    WorkerLostError,
    as_failure,
    finish,
    run_epochs,
)

RESIZE_EVERY_S = 30.0
"""How often an elastic training looks for new nodes. Each change of the number of workers costs
the epoch in progress, so that nodes which join together should cause a single change."""

PEER_LOST = re.compile(r"gloo|connection|socket|process group", re.IGNORECASE)
"""What messages contain of errors that the loss of another worker causes."""

STARTS = 2
"""How often Ray Train may fail to start the workers, which takes long where others hold resources,
before their resources are waited for again."""


def train_in_ray_train(data: Any, attempt: Attempt, on_epoch: OnEpoch) -> Trained:
    """Run an attempt on workers of Ray Train.

    Args:
        data: Reference to the training data.
        attempt: What to train.
        on_epoch: Called in this process with the metrics of each epoch.

    Raises:
        IrmasError: Training failed.
        WorkerLostError: A worker or its node was lost.
    """
    workers = attempt.workers
    # The controller waits for this actor: its imports run beside the controller's own.
    get_or_create_autoscaling_coordinator()
    events = WorkerEvents()
    trainer = TorchTrainer(
        # Not in `train_loop_config`, for which the controller would import all of this.
        partial(_train_worker, data, attempt, events),
        scaling_config=ScalingConfig(
            num_workers=workers.count
            if workers.min_workers is None
            else (workers.min_workers, workers.count),
            elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
            use_gpu=bool(workers.gpu),
            resources_per_worker=workers.resources,
        ),
        run_config=RunConfig(
            name=attempt.name,
            storage_path=attempt.progress,
            # Otherwise it tries again for ever, and says nothing. An elastic training may find
            # only by starting with how many workers it can.
            failure_config=FailureConfig(
                max_failures=0, max_preemption_failures=0, controller_failure_limit=STARTS
            ),
        ),
    )
    try:
        with events.handled(on_epoch), own_interrupts():
            result: Trained = trainer.fit().return_value
    except (TrainingFailedError, RayError) as error:  # of a worker, of the controller
        if events.failure:
            raise events.failure from error
        raise WorkerLostError(last_line(error)) from error
    finally:
        events.close()
    return result


class WorkerEvents:
    """Events that workers send to the driver; the object itself travels to the workers.

    When the process in between is killed, events are lost, and training goes on.

    Attributes:
        failure: In the driver, why training must end, if a worker sent a reason.
    """

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # On the driver's node: the queue must survive the loss of any other.
        self._queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.failure: IrmasError | None = None

    def send(self, kind: Literal["epoch", "message", "failure"], content: Any) -> None:
        """Send an epoch's metrics, a message to print, or the reason why training must end."""
        with suppress(RayError):
            self._queue.put((kind, content))

    @contextmanager
    def handled(self, on_epoch: OnEpoch) -> Iterator[None]:
        """Handle the events in a thread during the block, all of them before it ends."""
        with ThreadPoolExecutor(1) as pool:
            handling = pool.submit(self._handle, on_epoch)
            try:
                yield
            finally:
                with suppress(RayError):
                    self._queue.put(None)
                handling.result()

    def _handle(self, on_epoch: OnEpoch) -> None:
        with suppress(RayError):
            while (event := self._queue.get()) is not None:
                kind, content = event
                if kind == "epoch":
                    on_epoch(content)
                elif kind == "message":
                    say(content)
                else:
                    self.failure = self.failure or content

    def close(self) -> None:
        """Release the queue."""
        self._queue.shutdown()


def _train_worker(data: Any, attempt: Attempt, events: WorkerEvents) -> Trained:
    """Run one worker; all return the same, and Ray Train passes on what rank 0 returns."""
    context = train.get_context()
    try:
        return _run(data, attempt, events, context.get_world_rank(), context.get_world_size())
    except Exception as error:
        # When a peer is lost, Gloo raises a plain RuntimeError and NCCL one of torch's own.
        of_gloo = type(error) is RuntimeError and PEER_LOST.search(str(error))
        is_peers = of_gloo or isinstance(error, torch.distributed.DistError)
        own = not is_peers or is_out_of_memory(error)
        if context.get_world_size() == 1 or own:
            events.send("failure", as_failure(error))
        raise


def _run(data: Any, attempt: Attempt, events: WorkerEvents, rank: int, world_size: int) -> Trained:
    workers = attempt.workers
    torch.set_num_threads(max(int(workers.cpus), 1))
    learner = Learner(
        ray.get(data),
        attempt.settings,
        device=get_device(),
        rank=rank,
        workers=world_size,
        wrap=lambda network: prepare_model(
            network, move_to_device=False, parallel_strategy_kwargs=dict(DATA_PARALLEL)
        ),
    )
    # One worker chooses, so that all resume from the same epoch.
    newest = None
    if rank == 0:
        newest = newest_checkpoint(attempt.progress, lambda line: events.send("message", line))
    if checkpoint := broadcast_from_rank_zero(newest):
        load_checkpoint(checkpoint, learner)
    if rank == 0 and (checkpoint or workers.min_workers):
        start = f"resuming after epoch {learner.epoch}" if checkpoint else "starting"
        share = f" on {world_size} of {workers.count} workers" if workers.min_workers else ""
        events.send("message", start + share)
    for metrics in run_epochs(learner, attempt):
        if rank == 0:
            events.send("epoch", metrics)
    # As bytes: Ray Train does not return tensors.
    return finish(learner, attempt.recipe)

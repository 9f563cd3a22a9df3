"""How many trials share a GPU: as many as its memory and the CPUs beside it can hold."""

import math
from typing import NamedTuple

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from irmas_dist.cluster.resources import share_of, wait_until_free, workers_on
from irmas_dist.cluster.without_ray import gpu_count, gpu_for_each, node_resources
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError, is_out_of_memory, last_line
from irmas_dist.terminal import say
from irmas_dist.training.data import TrainingData
from irmas_dist.training.graph import WARM_UP
from irmas_dist.training.learner import Learner

MARGIN = 2.0
"""How many times the memory of the recipe's own network a trial may need: a space has larger ones.
A trial that needs more than there is fails alone, as out of memory."""

CONTEXT_BYTES = 600 << 20
"""Memory of a process on a GPU beside its tensors: kernels and libraries."""

MEMORY_SHARE = 0.9
"""Share of a GPU's memory that trials may use together."""

MPS_CLIENTS = 48
"""Processes that NVIDIA's MPS serves on one GPU, by its manual; 60 from CUDA 13.1 on."""


class Memory(NamedTuple):
    """Bytes of GPU memory that a training takes for its tensors, and that the GPU has."""

    used: int
    total: int


def share_gpus(settings: SweepSettings, data: TrainingData, recipe: Recipe) -> SweepSettings:
    """Return the settings with the GPUs of each trial, which are none on a cluster without GPUs.

    How much memory a training of the recipe takes is measured on one of the GPUs.
    """
    if settings.gpus is not None:
        return settings
    if settings.workers > 1:
        return settings.model_copy(update={"gpus": float(gpu_for_each(settings.workers))})
    if not (gpus := gpu_count()):
        return settings.model_copy(update={"gpus": 0.0})
    nodes = node_resources()
    if not any(workers_on(node, settings.cpus, 1.0) for node in nodes):
        raise IrmasError(
            f"no node has a GPU and {settings.cpus:g} CPUs beside it: ask for fewer with --cpus"
        )
    wait_until_free(
        [{"CPU": settings.cpus, "GPU": 1.0}],
        f"a GPU and {settings.cpus:g} CPUs beside it, to measure how many trials can share it "
        "(--gpus decides by hand)",
    )
    try:
        memory = measure_on_gpu(data, recipe, settings.cpus)
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        reason = last_line(cause)
        if isinstance(cause, IrmasError) or is_out_of_memory(cause):
            # Other networks of the space may do well.
            say(
                f"each trial has a GPU of its own, as a training of the recipe could not be "
                f"measured ({reason}); --gpus decides by hand"
            )
            return settings.model_copy(update={"gpus": 1.0})
        say(f"trials run on CPUs, as the GPU cannot be used ({reason}); --gpus decides by hand")
        return settings.model_copy(update={"gpus": 0.0})
    cpus = min(node.get("CPU", 0) / node["GPU"] for node in nodes if node.get("GPU"))
    count = trials_on_a_gpu(memory, cpus, gpus, settings)
    say(
        f"{count} trials share each GPU ({memory.total / 2**30:.0f} GiB; a training of the recipe "
        f"takes {memory.used / 2**30:.1f}) and its {cpus:g} CPUs; --gpus decides by hand"
    )
    return settings.model_copy(update={"gpus": share_of(count)})


def measure_on_gpu(data: TrainingData, recipe: Recipe, cpus: float) -> Memory:
    """Return `memory_of_a_training`, of a process beside a GPU of the cluster.

    Raises:
        RayTaskError: The training fails, by its cause, or takes more memory than the GPU has.
        RayError: The process fails otherwise.
    """
    measure = ray.remote(num_gpus=1, num_cpus=cpus, max_calls=1)(memory_of_a_training)
    memory: Memory = ray.get(measure.remote(data, recipe))
    return memory


def trials_on_a_gpu(memory: Memory, cpus: float, gpus: float, settings: SweepSettings) -> int:
    """Return how many trials share each of ``gpus`` GPUs, with ``cpus`` CPUs beside it: 1 or more.

    Ray fills one GPU before it takes the next, so few trials are spread by larger shares.
    """
    by_memory = MEMORY_SHARE * memory.total / (MARGIN * memory.used + CONTEXT_BYTES)
    by_cpus = cpus / settings.cpus
    most = math.ceil((settings.concurrent or settings.trials) / gpus)
    return max(int(min(by_memory, by_cpus, most, MPS_CLIENTS)), 1)


def memory_of_a_training(data: TrainingData, recipe: Recipe) -> Memory:
    """Return the GPU memory that a training takes once its steps and its validation are graphs."""
    learner = Learner(data, recipe, device="cuda")
    for _ in range(WARM_UP):
        learner.run_epoch()
    return Memory(
        torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    )

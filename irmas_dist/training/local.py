"""Training in this process, on one worker and without Ray."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from irmas_dist import storage
from irmas_dist.config.training import LearnerSettings, WorkerSettings
from irmas_dist.errors import IrmasError, is_out_of_memory
from irmas_dist.storage.results import progress_directory
from irmas_dist.terminal import say
from irmas_dist.training.checkpoint import new_attempt
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import Learner
from irmas_dist.training.loop import (
    Attempt,
    OnEpoch,
    as_failure,
    finish,
    resume,
    run_epochs,
)
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.model_directory import save_model

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
"""Parameters of glibc's ``mallopt``."""


def train_here(
    data: TrainingData,
    settings: LearnerSettings,
    recipe: dict[str, Any],
    out: str,
    workers: WorkerSettings,
    on_epoch: OnEpoch,
) -> ModelDescription:
    """Train in this process, otherwise as `irmas_dist.training.distributed.train_distributed`.

    Raises:
        IrmasError: Training failed.
    """
    storage.make_directory(out)
    progress = progress_directory(out)
    attempt = Attempt(new_attempt(progress), progress, settings, recipe, workers)
    try:
        with computing_on(workers.cpus):
            learner = Learner(data, settings, device="cuda" if workers.gpu else "cpu")
            for line in resume(learner, progress):
                say(line)
            for metrics in run_epochs(learner, attempt):
                on_epoch(metrics)
            weights, description, validation = finish(learner, recipe)
    except (IrmasError, MemoryError, RuntimeError) as error:
        # A GPU that is busy, broken or not supported is no bug of ours.
        known = isinstance(error, IrmasError | torch.AcceleratorError)
        if known or is_out_of_memory(error):
            raise as_failure(error) from error
        raise
    description = save_model(out, weights, description, validation, data.all_known)
    storage.remove_directory(progress)
    return description


@contextmanager
def computing_on(cpus: float) -> Iterator[None]:
    """Run the block on as many threads as a worker has CPUs, keeping freed memory for reuse.

    The memory is kept for good, and why is said in `irmas_dist.cluster.runtime`.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(int(cpus), 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)

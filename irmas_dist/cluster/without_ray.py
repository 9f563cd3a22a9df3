"""What a command asks before it needs Ray, answered without importing it, which takes a second."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import say

RESIDENT_SHARE = 0.5
"""Features are held in memory when they take at most this share of Ray's object store."""

OBJECT_STORE_SHARE = 0.3
"""Ray's default size of the object store, as a share of the machine's memory."""

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may use: version 2 of control groups, version 1."""

LOCAL = "local"
"""The address that stands for a new Ray on this machine."""


def ray_address(address: str | None = None) -> str:
    """Return the Ray to use: the given one, else that of RAY_ADDRESS, else `LOCAL`.

    Inside a submitted job RAY_ADDRESS names the job's cluster.
    """
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


def ray_initialised() -> bool:
    """Return whether this process has started Ray, or joined a cluster."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def gpu_count() -> float:
    """Return the number of GPUs of the running Ray, or of this machine if none is running.

    Of this machine's, those that torch can use: it says so if there are others.
    """
    if ray_initialised():
        import ray

        return float(ray.cluster_resources().get("GPU", 0))
    import torch

    count = torch.cuda.device_count()
    if count and not torch.cuda.is_available():
        say(f"torch {torch.__version__} cannot use the GPU of this machine: its driver is too old, "
            "or there is none; this runs on CPUs")  # fmt: skip
        return 0.0
    return float(count)


def gpu_for_each(workers: int) -> bool:
    """Return whether each worker can have a GPU; say so where only a few could."""
    gpus = gpu_count()
    if 0 < gpus < workers:
        few = "there is 1" if gpus == 1 else f"there are {gpus:g}"
        say(f"training on CPUs: {workers} workers need as many GPUs, and {few}; see --workers")
    return gpus >= workers


def require_machine(workers: WorkerSettings) -> None:
    """Refuse workers that this machine cannot hold by itself, where no cluster is to hold them.

    Raises:
        IrmasError: They are to have more CPUs, or GPUs.
    """
    import joblib

    cpus = joblib.cpu_count()  # those that Slurm, a container or taskset leaves to it
    if workers.needed * workers.cpus > cpus:
        several = f"{workers.needed} workers of " if workers.needed > 1 else ""
        raise IrmasError(f"{several}--cpus {workers.cpus:g}: this machine has {cpus}")
    if workers.gpu and (gpus := gpu_count()) < workers.needed:
        found = f"{gpus:g} for {workers.needed} workers" if gpus else "no GPU"
        raise IrmasError(f"--gpu: torch finds {found} on this machine")


def _memory() -> int:
    """Return the bytes of this machine's memory, or of it what its container may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in LIMITS:
        with suppress(OSError, ValueError):  # Without a limit it says "max".
            return min(whole, int(Path(limit).read_text()))
    return whole


def node_resources() -> list[dict[str, float]]:
    """Return the resources of each node of the running Ray that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def fits_in_memory(size: int) -> bool:
    """Return whether ``size`` bytes fit into the object store of every node, beside other objects.

    Before Ray is started, this machine counts as the only node.
    """
    if ray_initialised():
        smallest = min(node.get("object_store_memory", 0.0) for node in node_resources())
    else:
        smallest = OBJECT_STORE_SHARE * _memory()
    return bool(size <= RESIDENT_SHARE * smallest)

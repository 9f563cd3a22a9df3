"""Room for workers: asked of the cluster, waited for, and given up in the end."""

import ray
from pydantic import Field
from ray.util.placement_group import placement_group, remove_placement_group

from irmas_dist.errors import IrmasError
from irmas_dist.settings import Settings
from irmas_dist.terminal import say

PATIENCE_S = 2.0
"""A cluster that has room gives it within this time; only then is it worth a word."""


class WorkerSettings(Settings):
    """How training is spread."""

    count: int = Field(1, ge=1)
    """Data-parallel workers."""
    cpus: float = Field(1.0, gt=0.0)
    """CPUs of each worker; as many threads compute in it."""
    gpu: bool = False
    """Whether each worker has a GPU."""
    retries: int = Field(3, ge=0)
    """How often training goes on from its last checkpoint after a worker or node was lost."""
    wait_s: float = Field(30.0, ge=0.0)
    """How long to wait for room in the cluster. One that grows by itself may need minutes."""
    kept: int = Field(2, ge=1)
    """Checkpoints that are kept while training: the best ones, and the last in any case."""

    @property
    def resources(self) -> dict[str, float]:
        """What one worker takes, as Ray names it."""
        return {"CPU": self.cpus, **({"GPU": 1.0} if self.gpu else {})}


def wait_for_room(workers: WorkerSettings) -> None:
    """Return once the cluster has room for all workers at the same time.

    The room is asked for, not only looked for, so that an autoscaler hears of it.

    Raises:
        IrmasError: There is none after ``wait_s``.
    """
    room = placement_group([workers.resources] * workers.count)
    try:
        if room.wait(min(PATIENCE_S, workers.wait_s)):
            return
        wanted = f"{workers.count} workers need {_listed(workers.resources, workers.count)}"
        say(f"waiting up to {workers.wait_s:g} s for room: {wanted}; {_situation()}")
        if not room.wait(max(workers.wait_s - PATIENCE_S, 0)):
            raise IrmasError(
                f"{wanted}, and after {workers.wait_s:g} s {_situation()}; ask for fewer workers, "
                "add nodes, or wait longer (--wait)"
            )
    finally:
        remove_placement_group(room)


def _situation() -> str:
    there, free = ray.cluster_resources(), ray.available_resources()
    kinds = [kind for kind in ("CPU", "GPU") if there.get(kind)]
    free_of = " and ".join(f"{free.get(kind, 0):g} of {there[kind]:g} {kind}s" for kind in kinds)
    return f"the cluster has {free_of or 'nothing'} free"


def _listed(resources: dict[str, float], count: int) -> str:
    return " and ".join(f"{amount * count:g} {kind}s" for kind, amount in resources.items())

"""Room for workers: asked of the cluster, waited for, and given up in the end."""

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import say

PATIENCE_S = 2.0
"""A cluster that has room gives it within this time; only then is it worth a word."""


def wait_for_room(workers: WorkerSettings) -> None:
    """Return once the cluster has room, at the same time, for all workers that are needed.

    The room is asked for, not only looked for, so that an autoscaler hears of it.

    Raises:
        IrmasError: There is none after ``wait_s``.
    """
    room = placement_group([workers.resources] * workers.needed)
    try:
        if room.wait(min(PATIENCE_S, workers.wait_s)):
            return
        wanted = f"{workers.needed} workers need {_listed(workers.resources, workers.needed)}"
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

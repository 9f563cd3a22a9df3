"""Room for workers: asked of the cluster, waited for, and given up in the end."""

from collections.abc import Mapping

import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group

from irmas_dist.config.sweep import SweepSettings
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import say

PATIENCE_S = 2.0
"""A cluster that has room gives it within this time; only then is it worth a word."""


def wait_for_resources(workers: WorkerSettings) -> None:
    """Return once the cluster has room, at the same time, for all workers that are needed.

    The room is asked for, not only looked for, so that an autoscaler hears of it.

    Raises:
        IrmasError: There is none after ``wait_timeout_s``.
    """
    room = placement_group([workers.resources] * workers.needed)
    try:
        if room.wait(min(PATIENCE_S, workers.wait_timeout_s)):
            return
        wanted = f"{workers.needed} workers need {_listed(workers.resources, workers.needed)}"
        say(f"waiting up to {workers.wait_timeout_s:g} s for room: {wanted}; {_situation()}")
        if not room.wait(max(workers.wait_timeout_s - PATIENCE_S, 0)):
            raise IrmasError(
                f"{wanted}, and after {workers.wait_timeout_s:g} s {_situation()}; ask for fewer "
                "workers, add nodes, or wait longer (--wait)"
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


def gpus() -> float:
    """Return the number of GPUs that the running Ray has."""
    return float(ray.cluster_resources().get("GPU", 0))


def trial_capacity(settings: SweepSettings) -> int:
    """Return how many trials the cluster has room for; a worker must fit on one node.

    Raises:
        IrmasError: For none.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = (
        sum(workers_on(node, settings.cpus, settings.gpus) for node in nodes) // settings.workers
    )
    if found < 1:
        there = "; ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise IrmasError(
            f"a trial needs {settings.workers} x {settings.cpus:g} CPUs and {settings.gpus:g} "
            f"GPUs, each on one node, and the nodes have {there}: ask for less with --cpus, "
            "--gpus or --workers, or add nodes"
        )
    return found


def workers_on(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers fit on a node; fractions of a GPU are of a single one.

    Args:
        node: Its resources, by Ray's names.
        cpus: CPUs of a worker, above 0.
        gpus: GPUs of a worker, 0 for none.
    """
    spare = 1e-6  # of what is not exact in binary
    by_cpu = int(node.get("CPU", 0) / cpus + spare)
    if not gpus:
        return by_cpu
    there = node.get("GPU", 0)
    of_gpus = int(there) * int(1 / gpus + spare) if gpus <= 1 else int(there / gpus + spare)
    return min(by_cpu, of_gpus)


def require_state_api() -> None:
    """Refuse a Ray on which workers of a stopped trial would never be cleared away.

    Raises:
        IrmasError: Its State API does not answer, or another Ray's answers in its place.
    """
    nodes = {node["NodeID"] for node in ray.nodes()}
    try:
        answered = ray.get(_nodes_by_state_api.remote(), timeout=60)
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise IrmasError(
            "trials of several workers need Ray's dashboard, which does not answer "
            f"({reason}); start Ray with its dashboard, and name it by its address if several "
            "run on this host"
        ) from error
    if not nodes & set(answered):
        raise IrmasError(
            "several Rays run on this host, and the dashboard of another one answers: set "
            f"RAY_ADDRESS={ray.get_runtime_context().gcs_address} where Ray is started"
        )


@ray.remote(num_cpus=0)
def _nodes_by_state_api() -> list[str]:
    from ray.util.state import list_nodes

    return [node.node_id for node in list_nodes(timeout=20)]

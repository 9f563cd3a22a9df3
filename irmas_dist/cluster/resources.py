"""Capacity of a Ray cluster: whether workers, trials and jobs fit on it.

Each worker, and each job's own process, must fit on a single node.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import ray
from ray._private.state import state
from ray.core.generated import gcs_pb2
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from irmas_dist.cluster.without_ray import node_resources
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError, last_line
from irmas_dist.terminal import say

if TYPE_CHECKING:
    from irmas_dist.cluster.job_client import Client

QUIET_WAIT_S = 2.0
"""Longer waits are reported; a cluster with free resources grants them sooner."""

FINEST = 0.0001
"""Smallest share of a resource that Ray counts."""


def cpu_count() -> int:
    """Return the number of CPUs of the running Ray, at least 1."""
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def wait_for_resources(workers: WorkerSettings) -> None:
    """Wait until the resources of all required workers are free at the same time.

    They are requested as a placement group, so that an autoscaler adds nodes for them.

    Raises:
        IrmasError: They are not free after ``wait_timeout_s``.
    """
    total = {kind: share * workers.needed for kind, share in workers.resources.items()}
    amounts = (f"{n:g} {kind}{'s' if n > 1 else ''}" for kind, n in total.items())
    several = f"{workers.needed} workers need" if workers.needed > 1 else "1 worker needs"
    wanted = f"{several} {' and '.join(amounts)}"
    if not wait_until_free([workers.resources] * workers.needed, wanted, workers.wait_timeout_s):
        raise IrmasError(
            f"{wanted}, and after {workers.wait_timeout_s:g} s {_free()}; ask for fewer "
            "workers, add nodes, or wait longer (--wait)"
        )


def wait_for_core(gpus: float = 0) -> None:
    """Wait until a core is free, and so much of a GPU, and say so where that takes long.

    Tasks and actors wait by themselves, but say nothing of it.
    """
    wanted = {"CPU": 1.0} | ({"GPU": gpus} if gpus else {})
    free = ray.available_resources()
    if not all(free.get(kind, 0) >= amount for kind, amount in wanted.items()):
        amounts = " and ".join(f"{amount:g} {kind}" for kind, amount in wanted.items())
        wait_until_free([{kind: amount} for kind, amount in wanted.items()], amounts)


def wait_until_free(
    bundles: list[dict[str, float]], wanted: str, timeout_s: float | None = None
) -> bool:
    """Wait until bundles are free at the same time, and say so where that takes long.

    Args:
        bundles: The resources.
        wanted: What they are for.
        timeout_s: After this time it is given up; None never gives up.

    Returns:
        Whether they became free.
    """
    request = placement_group(bundles)
    until = math.inf if timeout_s is None else time.monotonic() + timeout_s
    told = False
    try:
        # Ray waits for whole seconds.
        while not request.wait(max(math.ceil(min(QUIET_WAIT_S, until - time.monotonic())), 1)):
            if time.monotonic() >= until:
                return False
            if not _release_abandoned() and not told:
                limit = "" if timeout_s is None else f" up to {timeout_s:g} s"
                say(f"waiting{limit} for resources: {wanted}; {_free()}")
                told = True
        return True
    finally:
        remove_placement_group(request)


def _release_abandoned() -> int:
    """Remove the placement groups of actors of this job that have ended; return their number.

    Ray keeps them until the job ends, and Ray Train forgets that of workers which it fails to start
    with an error of their own, such as a process group that cannot be formed.
    """
    job = ray.get_runtime_context().get_job_id()
    table = state._connect_and_get_accessor().get_placement_group_table()
    abandoned = [
        group
        for group in map(gcs_pb2.PlacementGroupTableData.FromString, table)
        # Where no actor has made it, there is none that lives either.
        if group.creator_actor_dead
        and not ray.ActorID(group.creator_actor_id).is_nil()
        and not group.is_detached
        and group.creator_job_id.hex() == job
        and group.state != gcs_pb2.PlacementGroupTableData.REMOVED
    ]
    for group in abandoned:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
    return len(abandoned)


def _free() -> str:
    total, free = ray.cluster_resources(), ray.available_resources()
    kinds = [kind for kind in ("CPU", "GPU") if total.get(kind)]
    amounts = " and ".join(f"{free.get(kind, 0):g} of {total[kind]:g} {kind}s" for kind in kinds)
    return f"the cluster has {amounts or 'nothing'} free"


def trial_capacity(settings: SweepSettings) -> int:
    """Return how many trials fit on the cluster at a time.

    Raises:
        IrmasError: Not even one fits.
    """
    nodes = node_resources()
    gpus = settings.gpus or 0.0
    workers = sum(workers_on(node, settings.cpus, gpus) for node in nodes)
    if workers < settings.workers:
        existing = "; ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise IrmasError(
            f"a trial needs {settings.workers} x {settings.cpus:g} CPUs and {gpus:g} "
            f"GPUs, each on one node, and the nodes have {existing}: ask for less with --cpus, "
            "--gpus or --workers, or add nodes"
        )
    return workers // settings.workers


def most_trials(settings: SweepSettings) -> int:
    """Return how many trials may live on a cluster: those that fit now, and one that waits.

    An autoscaler adds nodes for it, and nodes that join by themselves take more.
    """
    try:
        return trial_capacity(settings) + 1
    except IrmasError:  # Nodes are lost, and may be replaced.
        return 1


def workers_on(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers fit on a node; a fraction of a GPU is of a single one.

    Args:
        node: The node's resources, by Ray's names.
        cpus: CPUs of a worker, above 0.
        gpus: GPUs of a worker, 0 for none.
    """
    tolerance = 1e-6  # some fractions are not exact in binary
    by_cpu = int(node.get("CPU", 0) / cpus + tolerance)
    if not gpus:
        return by_cpu
    total = node.get("GPU", 0)
    if gpus > 1:
        return min(by_cpu, int(total / gpus + tolerance))
    return min(by_cpu, int(total) * int(1 / gpus + tolerance))


def share_of(count: int) -> float:
    """Return the largest share of a GPU that so many workers can have at a time, as Ray counts."""
    return int(1 / count / FINEST) * FINEST


def require_job_capacity(client: "Client", cpus: float, gpus: float) -> None:
    """Refuse a job whose process needs more than any node has, unless nodes can be added.

    Ray itself keeps such a job pending for a quarter of an hour.

    Raises:
        IrmasError: No node has both, and no autoscaler adds nodes.
    """
    if not (cpus or gpus):
        return
    nodes = client.nodes()
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    wanted = f"{cpus:g} CPUs and {gpus:g} GPUs on one node"
    kinds = Counter(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
    existing = ", ".join(f"{kind} on {count} nodes" for kind, count in kinds.items())
    if not client.may_add_nodes():
        raise IrmasError(
            f"the command itself needs {wanted}, and the cluster at {client.get_address()} has "
            f"{existing}: ask for less with --cpus and --gpus, or add a node"
        )
    say(f"no node has {wanted} ({existing}): the job waits until one is added")


def require_state_api() -> None:
    """Check that Ray's State API answers: Ray Train needs it to release a stopped trial's workers.

    Raises:
        IrmasError: It does not answer, or that of another Ray does.
    """
    nodes = {node["NodeID"] for node in ray.nodes()}
    try:
        listed = ray.get(_nodes_by_state_api.remote(), timeout=60)
    except RayError as error:
        reason = last_line(error)
        raise IrmasError(
            "trials of several workers need Ray's dashboard, which does not answer "
            f"({reason}); start Ray with its dashboard, and name it by its address if several "
            "run on this host"
        ) from error
    if not nodes & set(listed):
        raise IrmasError(
            "several Rays run on this host, and the dashboard of another one answers: set "
            f"RAY_ADDRESS={ray.get_runtime_context().gcs_address} where Ray is started"
        )


@ray.remote(num_cpus=0)
def _nodes_by_state_api() -> list[str]:
    from ray.util.state import list_nodes

    return [node.node_id for node in list_nodes(timeout=20)]

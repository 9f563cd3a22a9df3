"""What is looked at before a sweep writes anything: whether it can be run at all, and with what."""

from collections.abc import Mapping

import ray

from irmas_dist.config.recipe import Recipe
from irmas_dist.errors import IrmasError
from irmas_dist.search.distributed_trial import require_state_api
from irmas_dist.search.samplers import best_points, build_sampler
from irmas_dist.search.schedulers import PAUSING, build_scheduler
from irmas_dist.search.space import Space
from irmas_dist.search.study import directions, open_study
from irmas_dist.search.sweep_directory import SweepSettings


def check_settings(settings: SweepSettings, space: Space, recipe: Recipe) -> None:
    """Refuse settings that do not go together, or that nothing here can run.

    Raises:
        IrmasError: What does not go together, or what the cluster lacks.
    """
    if settings.against and settings.scheduler != "none":
        raise IrmasError(f"--scheduler {settings.scheduler} compares by one objective; use none")
    if settings.scheduler in PAUSING and settings.concurrent:
        raise IrmasError(
            f"--scheduler {settings.scheduler} decides itself how many trials run; "
            "leave --concurrent out"
        )
    if settings.workers > 1 and settings.gpus not in (0.0, 1.0):
        raise IrmasError(f"--gpus {settings.gpus:g}: a worker of several has one GPU or none")
    if settings.workers > 1 and settings.scheduler in PAUSING:
        raise IrmasError(f"--scheduler {settings.scheduler} needs trials of one worker")
    if settings.workers > 1 and settings.against == "latency":
        raise IrmasError("--against latency needs trials of one worker")
    if settings.sampler == "grid":
        space.grid()
    if settings.warm_start:
        best_points(open_study(settings.warm_start), space)
    build_scheduler(settings.scheduler, space, recipe.training.epochs, 1, settings.reduction)
    objectives = len(directions(settings.against))
    build_sampler(settings.sampler, space, recipe.seed, objectives)
    room(settings)
    if settings.workers > 1:
        require_state_api()


def room(settings: SweepSettings) -> int:
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

"""Starting Ray, or joining it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from irmas_dist.errors import IrmasError

CONNECT_TIMEOUT_S = 5.0


@contextmanager
def ray_running(address: str | None = None, dashboard: bool = False) -> Iterator[None]:
    """Have Ray inside the block; a Ray that is there already is used and left running.

    Args:
        address: A cluster's address, or ``auto`` for the one running on this host. None joins
            the cluster that RAY_ADDRESS names (as it does inside a submitted job) and
            otherwise starts Ray on this machine, for the time of the block.
        dashboard: Whether a Ray that is started here is to have a dashboard, without which
            the workers of a trial that was stopped are never cleared away.

    Raises:
        IrmasError: There is no cluster at the address, or it will not have us.
    """
    if ray.is_initialized():
        yield
        return
    target = address or os.environ.get("RAY_ADDRESS") or "local"
    _require_answer(target)
    # A dashboard costs seconds and memory, and a cluster that is joined has its own.
    options: dict[str, Any] = {"include_dashboard": dashboard} if target == "local" else {}
    if dashboard and target not in ("local", "auto"):
        # Where several Rays run on a host, those who ask the dashboard must know which.
        options["runtime_env"] = {"env_vars": {"RAY_ADDRESS": target}}
    # Reports of an epoch would otherwise be looked at every two seconds only.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    try:
        ray.init(address=target, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise IrmasError(f"cannot use Ray at {target}: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or "://" in address or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise IrmasError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start one with "
            "'ray start --head', or leave --address out to use this machine alone"
        ) from error


def gpus() -> float:
    """Return the number of GPUs that the running Ray has."""
    return float(ray.cluster_resources().get("GPU", 0))

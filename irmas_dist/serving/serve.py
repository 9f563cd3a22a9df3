"""The stage `serve`: models behind an address, on this machine or a cluster."""

import errno
import math
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from irmas_dist import storage
from irmas_dist.cluster.without_ray import LOCAL, gpu_count, node_resources, ray_address
from irmas_dist.config.serving import TOKEN, ServingSettings, is_loopback, require_token
from irmas_dist.environment import default_variables, set_variables
from irmas_dist.errors import IrmasError, last_line
from irmas_dist.serving import haproxy
from irmas_dist.serving.models import read_models
from irmas_dist.serving.proxy import VARIABLES
from irmas_dist.terminal import say

APPLICATION = "irmas"
"""Name of the application on Ray Serve: another one of this name takes its place."""


def serve(
    settings: ServingSettings,
    started: Callable[[str, bool], None],
    host: str = "127.0.0.1",
    port: int = 8000,
    address: str | None = None,
) -> None:
    """Serve models: on this machine until interrupted, on a cluster from now on.

    Args:
        settings: The models, replicas and limits.
        started: Called once requests are answered, with the URL, and whether the application
            stays when this returns.
        host: Where to listen.
        port: Likewise.
        address: The Ray to use, as `ray_running` takes it.

    Raises:
        IrmasError: A model cannot be used, others could come in without a token, the port is
            taken, or the cluster is too small.
    """
    _require_installed()
    require_token(host, os.environ.get(TOKEN))
    here = ray_address(address) == LOCAL
    if here:
        _require_free(host, port)
    with deployed(settings, host, port, address) as url:
        started(url, not here)
        try:
            while here:
                time.sleep(3600)
        except KeyboardInterrupt:
            say("finishing the requests under way; Ctrl-C again cuts them off")
            raise


@contextmanager
def deployed(
    settings: ServingSettings, host: str, port: int, address: str | None = None
) -> Iterator[str]:
    """Deploy models on a Ray that is running, or on one that runs as long as the block does.

    Yields:
        The URL at which requests are answered.

    Raises:
        IrmasError: A model cannot be used, or the cluster is too small.
    """
    models = read_models(settings.models)
    say("starting Ray Serve")
    # They take seconds to import.
    import ray
    from ray import serve as ray_serve
    from ray.serve.config import HTTPOptions

    from irmas_dist.cluster.runtime import ray_running, require_shared
    from irmas_dist.serving.deployments import application_of

    own = not ray.is_initialized() and ray_address(address) == LOCAL
    longest_s = settings.limits.timeout_s
    with _variables(host, longest_s) if own else nullcontext(), ray_running(address):
        local = [each for each in settings.models.values() if not storage.is_url(each)]
        require_shared(None, *local)
        if settings.gpus is None:
            settings = settings.model_copy(update={"gpus": _shared_gpus(settings, gpu_count())})
        _require_capacity(settings, node_resources())
        try:
            ray_serve.start(
                http_options=HTTPOptions(host=host, port=port),
                # On a Ray of its own they are in the environment, which is sooner.
                controller_options={} if own else {"runtime_env": {"env_vars": VARIABLES}},
            )
        except ray.exceptions.RayError as error:
            if own:  # Another program may have taken it since.
                _require_free(host, port)
            reason = last_line(error)
            raise IrmasError(
                f"Ray Serve does not start: {reason}; {haproxy.ENABLED}=0 does without HAProxy"
            ) from error
        host, port = _listening(host, port)
        try:
            ray_serve.run(application_of(settings, models), name=APPLICATION)
        except (RuntimeError, ray.exceptions.RayTaskError) as error:  # of a replica, or Serve's
            raise IrmasError(_reason(ray_serve.status(), str(error))) from error
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        try:
            yield f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
        finally:
            if own:
                try:
                    _finish_requests(longest_s)
                finally:
                    ray_serve.shutdown()


def _finish_requests(longest_s: float) -> None:
    """Let replicas finish what they have begun, which shutting down would not wait for."""
    from ray import serve as ray_serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    until = time.monotonic() + longest_s
    with suppress(RayError, RayServeException):  # There may be no Ray Serve any more.
        ray_serve.delete(APPLICATION, _blocking=False)
        while APPLICATION in ray_serve.status().applications and time.monotonic() < until:
            time.sleep(0.2)


@contextmanager
def _variables(host: str, longest_s: float) -> Iterator[None]:
    """Set the variables of a Ray Serve that is started inside the block, on this machine alone."""
    with ExitStack() as stack:
        stack.enter_context(default_variables(VARIABLES))
        usable = haproxy.usable(host)
        stack.enter_context(default_variables({haproxy.ENABLED: str(int(usable))}))
        if usable:
            # The paths of sockets are limited to some 100 characters.
            folder = tempfile.TemporaryDirectory(
                prefix="irmas-", dir="/tmp", ignore_cleanup_errors=True
            )
            place = Path(stack.enter_context(folder))
            stack.enter_context(set_variables(haproxy.variables(place, host, longest_s)))
        elif os.environ[haproxy.ENABLED] == "1":
            raise IrmasError(f"HAProxy cannot be used on {host}: unset {haproxy.ENABLED}")
        yield


def _require_installed() -> None:
    try:
        import fastapi
        import python_multipart
        import ray.serve  # noqa: F401
    except ModuleNotFoundError as error:
        raise IrmasError(f"serving needs {error.name}: pip install 'irmas-dist[serve]'") from error
    del fastapi, python_multipart


def _require_free(host: str, port: int) -> None:
    """Refuse a port that is taken, and a host that is not of this machine."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, UnicodeError) as error:  # The latter: of what cannot be a name.
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise IrmasError(
                f"port {port} is in use: name another with --port, or change what a running "
                "'irmas serve' serves with --address auto"
            ) from error
        reason = getattr(error, "strerror", None) or error
        raise IrmasError(f"--host {host}, --port {port}: {reason}") from error


def _shared_gpus(settings: ServingSettings, gpus: float) -> float:
    """Return the GPUs of each replica, a share of one where replicas are more than ``gpus``."""
    from irmas_dist.cluster.resources import share_of

    if not gpus:
        return 0.0
    return share_of(math.ceil((settings.max_replicas or settings.replicas) / gpus))


def _require_capacity(settings: ServingSettings, nodes: list[dict[str, float]]) -> None:
    """Refuse more than the nodes have that are there, also if an autoscaler could add some."""
    from irmas_dist.cluster.resources import workers_on

    cpus, gpus = settings.replica_cpus, settings.gpus or 0.0
    if sum(workers_on(node, cpus, gpus) for node in nodes) < settings.replicas:
        found = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise IrmasError(
            f"{settings.replicas} replicas of {cpus:g} CPUs and {gpus:g} GPUs do not fit: the "
            f"nodes have {found or 'none'}; ask for fewer --replicas, --cpus or --gpus"
        )


def _listening(host: str, port: int) -> tuple[str, int]:
    """Return where Serve listens, which was chosen when it was first started on the cluster."""
    from ray.serve.context import _get_global_client

    options = _get_global_client().http_config
    found = options.host or "127.0.0.1"
    if not is_loopback(found) and is_loopback(host):
        require_token(found, os.environ.get(TOKEN))
    return found, options.port


def _reason(status: object, error: str) -> str:
    """Say in one line why the application does not run."""
    applications = getattr(status, "applications", {})
    found = applications.get(APPLICATION)
    messages = [error] if found is None else [
        each.message for each in found.deployments.values() if each.message
    ] or [found.message]  # fmt: skip
    lines = [line.strip() for line in "\n".join(messages).splitlines() if line.strip()]
    return f"the models cannot be served: {lines[-1] if lines else error}"

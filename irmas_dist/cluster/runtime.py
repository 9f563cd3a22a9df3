"""Starting Ray or joining a cluster, and checking that its nodes share storage."""

import os
import re
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import joblib
import ray
from ray.exceptions import AuthenticationError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from irmas_dist import storage
from irmas_dist.cluster.ports import free_port
from irmas_dist.cluster.without_ray import LOCAL, ray_address
from irmas_dist.environment import default_variables, set_variables
from irmas_dist.errors import IrmasError, first_line, without_password

CONNECT_TIMEOUT_S = 5.0

WORKER_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
}
"""Makes glibc keep the memory of freed tensors for the next ones.

By default it returns large blocks to the system at once, and a network on a CPU then spends
a third of its time on having them mapped and zeroed again. One arena, because further arenas
consist of heaps that are too small for a batch. Other allocators ignore these variables.
"""

TRAIN_ENVIRONMENT = {
    # By default Ray Train polls its workers every two seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Its view of the nodes may be 20 s old; it looks again after this time.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
}
"""Settings of Ray Train, which passes them on to its workers."""

NO_PREEMPTION = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""On this machine alone no node is announced to go, and the watcher's process is saved."""

NODE_TIMEOUT_S = 60.0
"""A node that does not answer within this time counts as lost."""


@contextmanager
def ray_running(address: str | None = None, dashboard: bool = False) -> Iterator[None]:
    """Run the block with Ray; a Ray that is already initialised is used and left running.

    Args:
        address: A cluster's address, or ``auto`` for the one running on this host. None joins
            the cluster that RAY_ADDRESS names (as it does inside a submitted job) and
            otherwise starts Ray on this machine until the block ends.
        dashboard: Whether a Ray that is started here has a dashboard, without which the
            workers of a stopped trial are never released.

    Raises:
        IrmasError: There is no cluster at the address, or it refuses this process.
    """
    if ray.is_initialized():
        yield
        return
    target = ray_address(address)
    if target == LOCAL:
        _provide_token()
    elif target != "auto":
        _require_listener(target)
    try:
        if target == LOCAL:
            # Its processes inherit them; a `runtime_env` would take each of them seconds more.
            environment = WORKER_ENVIRONMENT | TRAIN_ENVIRONMENT | NO_PREEMPTION
            port = free_port() if dashboard else None
            # Else those that ask the dashboard would ask that of the Ray that started last here.
            own = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}"} if port else {}
            with (
                default_variables(environment),
                set_variables(own),
                _kept_sigterm(),
                _deferred_interrupts(),
            ):
                # Ray itself counts a host's CPUs that this process may not use (Slurm, taskset).
                # A dashboard takes seconds and memory.
                ray.init(
                    address=target,
                    num_cpus=joblib.cpu_count(),
                    include_dashboard=dashboard,
                    dashboard_port=port,
                )
        else:
            # Workers inherit variables that are already set, and Ray refuses to set them twice.
            environment = {k: v for k, v in WORKER_ENVIRONMENT.items() if k not in os.environ}
            if dashboard and target != "auto":
                # Where several Rays run on a host, clients of the dashboard must know which to ask.
                environment["RAY_ADDRESS"] = target
            for name, value in TRAIN_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            with _kept_sigterm(), _deferred_interrupts():
                ray.init(address=target, runtime_env={"env_vars": environment})
    except (KeyboardInterrupt, SystemExit):  # Ray answers SIGTERM by the second.
        ray.shutdown()
        raise
    except Exception as error:
        ray.shutdown()  # what it has started nevertheless
        what = "cannot start Ray" if target == LOCAL else f"cannot use Ray at {target}"
        raise IrmasError(f"{what}: {_reason(error)}") from error
    if threading.current_thread() is threading.main_thread():
        # Ray's core aborts the process on SIGTERM, before anything is closed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _deferred_interrupts() -> Iterator[None]:
    """Let SIGINT act at the end of the block only; a second one acts at once.

    Ray's core hangs or crashes when it is interrupted while it starts, and leaves its processes.
    """
    before = signal.getsignal(signal.SIGINT)
    # What is ignored, as under nohup, stays so.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    received = 0

    def defer(number: int, _: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 1:
            signal.signal(number, before)
            signal.raise_signal(number)

    signal.signal(signal.SIGINT, defer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if received == 1:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def own_interrupts() -> Iterator[None]:
    """Restore at the end of the block what SIGINT does.

    Ray Train and Ray Tune leave their own answer behind, and what interrupts later work is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _kept_sigterm() -> Iterator[None]:
    """Raise SystemExit at the end of the block if SIGTERM came within, and was lost.

    Ray answers it by SystemExit itself, which Python drops where it is raised in a callback that
    the interpreter calls, such as that of a weak reference.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
        if signal.SIGTERM in _received(reading):
            raise SystemExit


def _received(signals: socket.socket) -> bytes:
    """Return the numbers of the signals that have arrived at a socket, see `set_wakeup_fd`."""
    signals.setblocking(False)
    with suppress(BlockingIOError):
        return signals.recv(1 << 16)
    return b""


def require_shared(out: str | None, *inputs: str) -> None:
    """Refuse local paths that are not the same on every node of the running cluster.

    Otherwise a checkpoint or a shard would be out of reach of all nodes but the one that wrote
    it. Every node is asked whether it sees a directory that is created here.

    Args:
        out: Path or URL of the nodes' output; None if they only read.
        inputs: Paths or URLs of their inputs.

    Raises:
        IrmasError: A node does not see one of them, or ``out`` cannot be written here.
    """
    here = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if not nodes.keys() - {here}:
        return
    paths = {path: storage.absolute(path) for path in inputs if not storage.is_url(path)}
    with tempfile.TemporaryDirectory(dir=_existing_parent(out), prefix=".irmas-") as marker:
        if out is not None and not storage.is_url(out):
            paths[out] = marker
        answers = {
            node: _missing.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(paths)
            for node in nodes.keys() - {here}
        }
        for node, answer in answers.items():
            try:
                missing = ray.get(answer, timeout=NODE_TIMEOUT_S)
            except RayError:
                continue
            if missing:
                raise IrmasError(
                    f"node {nodes[node]} does not see {missing[0]} as node {nodes[here]} does: "
                    "name a directory that all nodes mount, or a URL such as s3://bucket/name"
                )


@ray.remote
def _missing(paths: dict[str, str]) -> list[str]:
    """Return the names of the paths that do not exist on the node where this runs."""
    return [name for name, path in paths.items() if not Path(path).exists()]


def _existing_parent(out: str | None) -> Path | None:
    """Return the nearest existing directory at or above a local path; it must be writable."""
    if out is None or storage.is_url(out):
        return None
    path = Path(storage.absolute(out))
    while not path.is_dir():
        path = path.parent
    if not os.access(path, os.W_OK):
        raise IrmasError(f"{out} cannot be created: {path} is not writable")
    return path


def _provide_token() -> None:
    """Give a Ray of this process a token where it could not write one, for want of a home."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path's raises where there is none
    if not (home / ".ray" / "auth_token").exists() and not os.access(home, os.W_OK):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _reason(error: Exception) -> str:
    """Say in one line why Ray cannot be used, and what to do."""
    reason = first_line(error)
    if "AF_UNIX path length" in reason:
        return (
            "the path of the temporary directory is too long for its sockets; set RAY_TMPDIR to a "
            "shorter one, such as /tmp"
        )
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; set RAY_TMPDIR to a directory of your own"
    if "timed out during startup" in reason:
        return (
            "it has not started within half a minute, as a rule because the machine is busy or "
            "short of memory; run the command again when it is less so"
        )
    # Ray distinguishes a wrong token from other reasons only in its log.
    if isinstance(error, ConnectionError | AuthenticationError):
        return (
            f"{reason.rstrip('.')}; if it wants a token, set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN to the one it was started with"
        )
    return reason


def _require_listener(address: str) -> None:
    """Refuse what is no address, or where nothing listens: Ray itself would try for minutes."""
    found = re.fullmatch(r"(ray://)?(\[[\da-fA-F:]+\]|[^\s:/]+):(\d{1,5})", address)
    if not found or int(found[3]) >= 2**16:
        raise IrmasError(
            f"{without_password(address)} is not the address of a Ray cluster: that is auto, or "
            "host:port as in head:6379 (a dashboard's URL is for irmas submit and irmas jobs)"
        )
    try:
        place = found[2].strip("[]"), int(found[3])
        socket.create_connection(place, timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:  # The latter: of what cannot be a name.
        reason = getattr(error, "strerror", None) or error
        raise IrmasError(
            f"no Ray cluster answers at {address} ({reason}); start one with "
            "'ray start --head', or leave --address out to use this machine alone"
        ) from error

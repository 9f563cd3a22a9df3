"""A real Ray cluster of one node, ended with every process that it started."""

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ray  # noqa: F401  (puts the psutil that it brings along on the import path)

# isort: split
import psutil

START_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class RunningCluster:
    """The addresses of a cluster, and the environment that its clients need."""

    dashboard_url: str
    gcs_address: str
    environment: dict[str, str]


@contextmanager
def running_cluster(
    num_cpus: int = 2, object_store_mb: int = 128, **variables: str
) -> Iterator[RunningCluster]:
    """Start a head node with a token of its own; on exit, end it and its children.

    It shares nothing with other clusters on this host: ports, temporary directory and
    token are its own, and it is ended by process id.

    Args:
        num_cpus: CPUs that the node offers, however many this machine has.
        object_store_mb: Size of the object store.
        variables: Further environment variables of the node.
    """
    gcs, dashboard, agent, client = _free_ports(4)
    token = secrets.token_hex(32)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        # Jobs run `python`, which must be this one even if its venv is not activated.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        **variables,
    }
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--node-ip-address=127.0.0.1", f"--port={gcs}", f"--num-cpus={num_cpus}"),
            "--num-gpus=0",
            *("--include-dashboard=true", "--dashboard-host=127.0.0.1"),
            *(f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"),
            f"--ray-client-server-port={client}",
            # Ray refuses its default range of worker ports if one of ours is in it.
            *("--min-worker-port=0", "--max-worker-port=0"),
            *(f"--temp-dir={temporary}/r", f"--object-store-memory={object_store_mb << 20}"),
        ]
        log = Path(temporary) / "start.log"
        with log.open("wb") as output:
            head = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            url = f"http://127.0.0.1:{dashboard}"
            _wait_until_up(head, url, token, log)
            yield RunningCluster(url, f"127.0.0.1:{gcs}", {"RAY_AUTH_TOKEN": token})
        finally:
            end_family(head)


def free_port() -> int:
    """Return a port on which nothing listens."""
    return _free_ports(1)[0]


def _free_ports(count: int) -> list[int]:
    # Below the kernel's range of ephemeral ports, so that none is taken meanwhile.
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def wait_for_nodes(cluster: RunningCluster, count: int) -> None:
    """Wait until as many nodes of a cluster are alive."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while len(alive(cluster.dashboard_url, cluster.environment["RAY_AUTH_TOKEN"])) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the cluster does not have {count} nodes")
        time.sleep(0.2)


def _wait_until_up(head: subprocess.Popen[bytes], url: str, token: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and head.poll() is None:
        if alive(url, token):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the cluster did not start:\n{log.read_text()[-4000:]}")


def alive(url: str, token: str) -> list[str]:
    """Return the addresses of the nodes that a cluster reports as alive; none if it is down."""
    request = urllib.request.Request(
        f"{url}/nodes?view=summary", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            nodes = json.load(answer)["data"]["summary"]
    except (OSError, ValueError):
        return []
    raylets = [node["raylet"] for node in nodes]
    return [one["nodeManagerAddress"] for one in raylets if one.get("state") == "ALIVE"]


def end_family(head: subprocess.Popen[bytes]) -> None:
    """Kill the leader of a process group, and every process that it started."""
    try:
        family = psutil.Process(head.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    # Workers and jobs lead groups of their own.
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)

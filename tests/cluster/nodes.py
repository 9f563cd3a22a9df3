"""A Ray cluster whose nodes are hosts of a network, and jobs that are submitted to it."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.network import Host, Hosts
from tests.ray_cluster import START_TIMEOUT_S, alive, free_port
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240.0
"""No step of a drill takes this long unless it hangs."""

CPUS = 2
"""CPUs that each node offers, however many cores this machine has."""


@dataclass
class Cluster:
    """A head without CPUs, and nodes that do the work, each started by ``ray start``.

    Args:
        network: Provides the hosts.
        folder: For logs and Ray's temporary files, which must have a short path.
        token: Required of every client.

    Attributes:
        head: The host of the control service, the dashboard and the jobs.
        nodes: The other nodes, except those that were lost.
    """

    network: Hosts
    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    nodes: list[Host] = field(default_factory=list)
    gcs_port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.head = self._new_head()

    def _new_head(self) -> Host:
        head = self.network.add()
        self._ray(
            head,
            *("--head", f"--port={self.gcs_port}", "--num-cpus=0"),
            *(f"--dashboard-host={head.address}", f"--dashboard-port={self.dashboard_port}"),
            f"--ray-client-server-port={free_port()}",
        )
        return head

    def lose_head(self) -> None:
        """Kill everything on the head; its nodes are not notified."""
        self.head.kill()

    def replace_head(self) -> None:
        """Start another head, without the state of the one before and without nodes."""
        self.nodes.clear()
        self.head = self._new_head()

    @property
    def url(self) -> str:
        """URL of the dashboard."""
        return f"http://{self.head.address}:{self.dashboard_port}"

    @property
    def address(self) -> str:
        """The address that a driver joins."""
        return f"{self.head.address}:{self.gcs_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the cluster's nodes and clients."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return clean | {
            "RAY_AUTH_TOKEN": self.token,
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            # By default Ray's workers yield to everything that runs beside the tests.
            "RAY_worker_niceness": "0",
            "PYTHONPATH": str(ROOT),
            "IRMAS_LOG_DIR": str(self.folder / "logs"),
            # Jobs run `python`, which must be this one even if its venv is not activated.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }

    def alive(self) -> list[str]:
        """Return the addresses of the nodes that the cluster reports as alive, with its head."""
        return alive(self.url, self.token)

    def add(self) -> Host:
        """Start another node; `wait_until_up` waits for it."""
        node = self.network.add()
        self._ray(node, f"--address={self.address}", f"--num-cpus={CPUS}")
        self.nodes.append(node)
        return node

    def lose(self, node: Host) -> None:
        """Kill everything on a node."""
        node.kill()
        self.nodes.remove(node)

    def disconnect(self, node: Host) -> None:
        """Disconnect a node for good; its processes keep running."""
        node.disconnect()
        self.nodes.remove(node)

    def have(self, count: int) -> list[Host]:
        """Start nodes until there are ``count`` besides the head, and wait until they are up."""
        while len(self.nodes) < count:
            self.add()
        self.wait_until_up()
        return self.nodes

    def wait_until_up(self) -> None:
        """Wait until the head and all nodes are alive, and no others."""
        wanted = sorted(host.address for host in (self.head, *self.nodes))
        wait_for(lambda: sorted(self.alive()) == wanted, START_TIMEOUT_S, why=self._starts)

    def submit(self, name: str, *command: object) -> "Job":
        """Submit a command without waiting for it."""
        return Job(self, name, [str(argument) for argument in command])

    def _ray(self, host: Host, *options: str) -> None:
        """Start Ray on a host."""
        command = (
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
            *(f"--node-ip-address={host.address}", f"--temp-dir={self.folder}/{host.name}"),
            f"--dashboard-agent-listen-port={free_port()}",
            *("--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0"),
            "--num-gpus=0",  # Each would count this machine's.
        )
        # Gloo would look for hosts by name, and all have this machine's.
        own = {"GLOO_SOCKET_IFNAME": host.card}
        host.start([*command, *options], self.environment | own, self._log(host))

    def _log(self, host: Host) -> Path:
        return self.folder / f"{host.name}.log"

    def _starts(self) -> str:
        hosts = [host for host in (self.head, *self.nodes) if host.address not in self.alive()]
        return "\n".join(self._log(host).read_text()[-1000:] for host in hosts)


class Job:
    """A running ``irmas submit`` of a command, which follows the job to its end."""

    def __init__(self, cluster: Cluster, name: str, command: list[str]) -> None:
        self.log = cluster.folder / f"job-{name}-{time.monotonic_ns()}.log"
        self.began = time.monotonic()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "irmas_dist", "submit", "--address", cluster.url,
                 "--name", name, "--", *command],
                env=cluster.environment,
                cwd=cluster.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def output(self) -> str:
        """Return the output so far."""
        return self.log.read_text()

    def until(self, holds: Callable[[], object]) -> float:
        """Wait for something that happens while the job runs; return the time."""
        seen = False

        def seen_or_over() -> bool:
            nonlocal seen
            seen = bool(holds())  # evaluated once: it may not hold for long
            return seen or self.process.poll() is not None

        wait_for(seen_or_over, TIMEOUT_S, why=self.output)
        assert seen, f"the job ended before it happened:\n{self.output()}"
        return time.monotonic()

    def succeeds(self, limit: float = TIMEOUT_S) -> float:
        """Wait for the job's success, and return the seconds since its submission."""
        wait_for(lambda: self.process.poll() is not None, limit, why=self.output)
        assert self.process.returncode == 0, self.output()
        return time.monotonic() - self.began

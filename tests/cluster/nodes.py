"""A Ray cluster whose nodes are hosts of a network, and jobs that people submit to it."""

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

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240.0
"""Nothing in a drill takes longer; only what hangs does."""

CPUS = 2
"""What each node says that it has, however few cores this machine has."""


@dataclass
class Cluster:
    """A head that takes no work, and nodes that do it, each started by ``ray start``.

    Args:
        network: Where the hosts come from.
        folder: For logs and Ray's temporary files, which must have a short path.
        token: Without it nobody may use the cluster.

    Attributes:
        head: Where the cluster's memory, its dashboard and its jobs are.
        nodes: The others that were not killed by `lose`.
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
        """Kill everything on the head; its nodes are left to find out for themselves."""
        self.head.kill()

    def begin_again(self) -> None:
        """Start another head, which knows nothing of the one before; it has no nodes yet."""
        self.nodes.clear()
        self.head = self._new_head()

    @property
    def url(self) -> str:
        """The dashboard."""
        return f"http://{self.head.address}:{self.dashboard_port}"

    @property
    def address(self) -> str:
        """What a driver joins."""
        return f"{self.head.address}:{self.gcs_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What whoever uses the cluster has in the environment."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return clean | {
            "RAY_AUTH_TOKEN": self.token,
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Else whatever runs beside the tests goes before Ray's workers.
            "RAY_worker_niceness": "0",
            "PYTHONPATH": str(ROOT),
            "IRMAS_LOG_DIR": str(self.folder / "logs"),
            # Jobs run `python`, which has to be this one though its venv may not be activated.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }

    def alive(self) -> list[str]:
        """Addresses of the nodes that the cluster believes to be alive, its head's among them."""
        return alive(self.url, self.token)

    def add(self) -> Host:
        """Start one more node; `wait_until_up` waits for it."""
        node = self.network.add()
        self._ray(node, f"--address={self.address}", f"--num-cpus={CPUS}")
        self.nodes.append(node)
        return node

    def lose(self, node: Host) -> None:
        """Kill everything on a node."""
        node.kill()
        self.nodes.remove(node)

    def cut_off(self, node: Host) -> None:
        """Cut the network to a node for good; what runs on it goes on, and nobody hears of it."""
        node.cut()
        self.nodes.remove(node)

    def have(self, count: int) -> list[Host]:
        """Have as many nodes besides the head, all of them up."""
        while len(self.nodes) < count:
            self.add()
        self.wait_until_up()
        return self.nodes

    def wait_until_up(self) -> None:
        """Wait until the head and all nodes are there, and no others."""
        wanted = sorted(host.address for host in (self.head, *self.nodes))
        wait_for(lambda: sorted(self.alive()) == wanted, self._starts, START_TIMEOUT_S)

    def submit(self, name: str, *command: object) -> "Job":
        """Submit a command, and go on while it runs."""
        return Job(self, name, [str(argument) for argument in command])

    def _ray(self, host: Host, *options: str) -> None:
        """Start Ray on a host."""
        command = (
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
            *(f"--node-ip-address={host.address}", f"--temp-dir={self.folder}/{host.name}"),
            f"--dashboard-agent-listen-port={free_port()}",
            *("--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0"),
        )
        # All hosts have this machine's name, by which Gloo would look for them.
        own = {"GLOO_SOCKET_IFNAME": host.card}
        host.start([*command, *options], self.environment | own, self._log(host))

    def _log(self, host: Host) -> Path:
        return self.folder / f"{host.name}.log"

    def _starts(self) -> str:
        hosts = [host for host in (self.head, *self.nodes) if host.address not in self.alive()]
        return "\n".join(self._log(host).read_text()[-1000:] for host in hosts)


class Job:
    """``irmas submit`` of a command, which follows it to its end."""

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

    def said(self) -> str:
        """All that it said so far."""
        return self.log.read_text()

    def until(self, holds: Callable[[], object]) -> float:
        """Wait for something that happens while the job runs; return the moment."""
        seen = False

        def seen_or_over() -> bool:
            nonlocal seen
            seen = bool(holds())  # asked once: it may not hold for long
            return seen or self.process.poll() is not None

        wait_for(seen_or_over, self.said)
        assert seen, f"the job ended before it happened:\n{self.said()}"
        return time.monotonic()

    def succeeds(self, limit: float = PATIENCE_S) -> float:
        """Wait for the end, and return the seconds that all of it took."""
        wait_for(lambda: self.process.poll() is not None, self.said, limit)
        assert self.process.returncode == 0, self.said()
        return time.monotonic() - self.began


def wait_for(
    holds: Callable[[], object], why: Callable[[], str], limit: float = PATIENCE_S
) -> None:
    """Wait until something holds; past the limit, fail with what ``why`` then says."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, f"it did not happen in {limit:g} s:\n{why()}"
        time.sleep(0.1)

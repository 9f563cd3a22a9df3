"""Hosts on one machine: network namespaces on a bridge, each with an address.

Without the rights for that, a host is only a name for processes that were started together.
"""

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import ClassVar, Protocol

from ray.util import get_node_ip_address

BENCHMARKS = IPv4Network("198.18.0.0/15")
"""Addresses reserved for tests of networks (RFC 2544): no machine has one of them."""

CARD = "eth0"
"""Name of each host's network interface inside the host."""

MARK = "IRMAS_TEST_HOST"
"""Environment variable with the host's name in every process of a host."""


@dataclass(frozen=True)
class Host:
    """A network namespace with an interface of its own, and this machine's file system.

    Attributes:
        name: The namespace.
        address: Its address.
        cable: The interface at the bridge's end of its veth pair.
    """

    name: str
    address: str
    cable: str = ""
    card: ClassVar[str] = CARD

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a program here; `kill` ends it and everything that it started."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.enter(), *command],
                env={**environment, MARK: self.name},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def enter(self) -> list[str]:
        """Return the prefix of a command that runs here."""
        return ["ip", "netns", "exec", self.name]

    def pids(self) -> list[int]:
        """Return the ids of all processes here."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def runs(self, title: str) -> bool:
        """Return whether a process with this text in its command line runs here."""
        found = False
        for pid in self.pids():
            with suppress(OSError):
                found |= title.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        return found

    def kill(self) -> None:
        """Kill all processes here at once, as in a power failure."""
        # All are stopped first, so that none can report the death of another.
        for end in (signal.SIGSTOP, signal.SIGKILL):
            self._send(end)
        while self.pids():
            self._send(signal.SIGKILL)
            time.sleep(0.02)

    def _send(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def disconnect(self) -> None:
        """Disconnect the host: packets are lost, and neither side is notified."""
        _ip("link", "set", self.cable, "down")

    def reconnect(self) -> None:
        """Connect the host again."""
        _ip("link", "set", self.cable, "up")


class LocalHost(Host):
    """Processes of this machine that were started together, without a network of their own."""

    card: ClassVar[str] = "lo"

    def enter(self) -> list[str]:
        """Return no prefix."""
        return []

    def pids(self) -> list[int]:
        """Return the ids of all processes with the host's name in their environment."""
        found = []
        mark = f"{MARK}={self.name}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended meanwhile, or another user's
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found


class Hosts(Protocol):
    """A set of hosts that can be extended."""

    hosts: list[Host]

    def add(self) -> Host:
        """Add a host."""


@dataclass
class Network:
    """A bridge, which is also this machine's interface, and the hosts on it.

    Attributes:
        bridge: Name of the bridge, the prefix of all other names.
        subnet: The addresses of the hosts; this machine has the first.
        hosts: All hosts that were ever added.
    """

    bridge: str
    subnet: IPv4Network
    hosts: list[Host] = field(default_factory=list)

    def add(self) -> Host:
        """Add a host with the next address."""
        number = len(self.hosts) + 2
        name, cable = f"{self.bridge}-{number}", f"{self.bridge}v{number}"
        host = Host(name, str(self.subnet[number]), cable)
        _ip("netns", "add", name)
        self.hosts.append(host)
        _ip("link", "add", cable, "type", "veth", "peer", "name", CARD, "netns", name)
        _ip("link", "set", cable, "master", self.bridge, "up")
        inside = ("-netns", name)
        _ip(*inside, "address", "add", f"{host.address}/{self.subnet.prefixlen}", "dev", CARD)
        for device in ("lo", CARD):
            _ip(*inside, "link", "set", device, "up")
        return host


@dataclass
class Names:
    """Hosts that all have this machine's address; Ray replaces the loopback address by it."""

    name: str = field(default_factory=lambda: f"ir{secrets.token_hex(2)}")
    hosts: list[Host] = field(default_factory=list)

    def add(self) -> Host:
        """Add a host."""
        name = f"{self.name}-{len(self.hosts)}"
        self.hosts.append(LocalHost(name, get_node_ip_address()))
        return self.hosts[-1]


@contextmanager
def names() -> Iterator[Names]:
    """Provide hosts that are only names; on exit, kill all their processes."""
    made = Names()
    try:
        yield made
    finally:
        for host in made.hosts:
            host.kill()


@contextmanager
def network() -> Iterator[Network]:
    """Provide a network; on exit, kill all processes of its hosts, and delete it."""
    made = Network(f"ir{secrets.token_hex(2)}", _unused_subnet())
    _ip("link", "add", made.bridge, "type", "bridge")
    try:
        _ip("address", "add", f"{made.subnet[1]}/{made.subnet.prefixlen}", "dev", made.bridge)
        _ip("link", "set", made.bridge, "up")
        yield made
    finally:
        for host in made.hosts:
            host.kill()
            _ip("netns", "delete", host.name)  # its interfaces are deleted with it
        _ip("link", "delete", made.bridge)


def _unused_subnet() -> IPv4Network:
    addresses = [
        IPv4Interface(f"{one['local']}/{one['prefixlen']}").network
        for link in json.loads(_ip("-json", "-4", "address"))
        for one in link["addr_info"]
    ]
    free = [
        subnet
        for subnet in BENCHMARKS.subnets(new_prefix=24)
        if not any(subnet.overlaps(taken) for taken in addresses)
    ]
    return secrets.choice(free)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout

"""Machines on one machine: network namespaces with an address each, on a bridge of their own.

Where that cannot be had, hosts are no more than names for what was started together.
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
"""Addresses that are kept for tests of networks (RFC 2544): no machine has one of them."""

CARD = "eth0"
"""Name of each host's network card, as the host itself sees it."""

MARK = "IRMAS_TEST_HOST"
"""Variable in the environment of what runs on a host that is no more than a name."""


@dataclass(frozen=True)
class Host:
    """A namespace with a network card of its own, on the same file system as everything else.

    Attributes:
        name: The namespace.
        address: Its address.
        cable: The end of its cable that is plugged into the bridge.
    """

    name: str
    address: str
    cable: str = ""
    card: ClassVar[str] = CARD

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a program here; it may outlive what it starts, until `kill` ends all of them."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.enter(), *command],
                env={**environment, MARK: self.name},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def enter(self) -> list[str]:
        """Return what makes a command run here."""
        return ["ip", "netns", "exec", self.name]

    def pids(self) -> list[int]:
        """Return everything that runs here."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def runs(self, title: str) -> bool:
        """Return whether a process runs here that has this in its command line."""
        found = False
        for pid in self.pids():
            with suppress(OSError):
                found |= title.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        return found

    def kill(self) -> None:
        """Kill everything that runs here at once, as when the power fails."""
        # First all are held, so that none can tell anybody that others have died.
        for end in (signal.SIGSTOP, signal.SIGKILL):
            self._send(end)
        while self.pids():
            self._send(signal.SIGKILL)
            time.sleep(0.02)

    def _send(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def cut(self) -> None:
        """Pull the cable: what is sent gets lost, and nobody is told."""
        _ip("link", "set", self.cable, "down")

    def restore(self) -> None:
        """Plug the cable in again."""
        _ip("link", "set", self.cable, "up")


class LocalHost(Host):
    """Processes of this machine that were started together; they have no network to be cut from."""

    card: ClassVar[str] = "lo"

    def enter(self) -> list[str]:
        """Return nothing: it is here."""
        return []

    def pids(self) -> list[int]:
        """Return everything that has the host's name in its environment."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended meanwhile, or another user's
                if f"{MARK}={self.name}".encode() in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
        return found


class Hosts(Protocol):
    """Where hosts come from."""

    hosts: list[Host]

    def add(self) -> Host:
        """Add a host."""


@dataclass
class Network:
    """A bridge, which is this machine's own way in, and the hosts on it.

    Attributes:
        bridge: Name of the bridge, with which all other names begin.
        subnet: The addresses of the hosts; this machine has the first.
        hosts: All that were ever added.
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
    """Hosts that all have this machine's own address, which is what Ray makes of the loopback's."""

    name: str = field(default_factory=lambda: f"ir{secrets.token_hex(2)}")
    hosts: list[Host] = field(default_factory=list)

    def add(self) -> Host:
        """Add a host."""
        name = f"{self.name}-{len(self.hosts)}"
        self.hosts.append(LocalHost(name, get_node_ip_address()))
        return self.hosts[-1]


@contextmanager
def names() -> Iterator[Names]:
    """Make hosts that are no more than names; on leaving, kill all that runs on them."""
    made = Names()
    try:
        yield made
    finally:
        for host in made.hosts:
            host.kill()


@contextmanager
def network() -> Iterator[Network]:
    """Make a network; on leaving, kill all that runs on its hosts, and take it down."""
    made = Network(f"ir{secrets.token_hex(2)}", _unused_subnet())
    _ip("link", "add", made.bridge, "type", "bridge")
    try:
        _ip("address", "add", f"{made.subnet[1]}/{made.subnet.prefixlen}", "dev", made.bridge)
        _ip("link", "set", made.bridge, "up")
        yield made
    finally:
        for host in made.hosts:
            host.kill()
            _ip("netns", "delete", host.name)  # with it goes the cable
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

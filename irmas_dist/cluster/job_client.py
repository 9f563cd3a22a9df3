"""The dashboard of a Ray cluster: where it is, the token it wants, a client that gives up in time.

Ray's own client waits for ever, leaves out the token, and fails with pages of text; the one
from `connect` has time limits, and `one_line_errors` puts its failures into one line.
"""

import os
import platform
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from irmas_dist.errors import IrmasError
from irmas_dist.terminal import say

DASHBOARD_PORT = 8265
"""Ray's default port for the dashboard, which serves the Jobs API."""

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 120.0


def dashboard_url(address: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the dashboard that ``address`` means.

    An address with ``http://`` or ``https://`` is used as it is, ``host:port`` is the
    dashboard's, and of ``ray://host:port`` only the host counts. Without an address, or
    with ``auto``, RAY_API_SERVER_ADDRESS is read in the same way; then RAY_ADDRESS,
    whose ``host:port`` is not the dashboard's, so that only its host counts; then it is
    this machine. Where only the host counts, the port is 8265.
    """
    if address in (None, "auto"):
        address = environment.get("RAY_API_SERVER_ADDRESS")
    if not address:
        address = environment.get("RAY_ADDRESS") or "auto"
        if "://" not in address:
            address = f"ray://{address}"
    if address.startswith(("http://", "https://")):
        return address.rstrip("/")
    if address.startswith("ray://"):
        host = re.sub(r":\d+$", "", urlsplit(address).netloc)
        return f"http://{'127.0.0.1' if host in ('auto', 'local') else host}:{DASHBOARD_PORT}"
    return f"http://{address}"


class Client(JobSubmissionClient):
    """Ray's client with a time limit on every request, where Ray waits for ever."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        limits = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        return super()._do_request(method, endpoint, timeout=limits, **options)

    def require_same_versions(self) -> None:
        """Refuse a cluster whose Ray or Python is of another minor release than ours.

        The code that is sent was tried with ours, and finds the cluster's there.
        """
        self._require_same("Ray", self._server_ray_version, ray.__version__)
        python = self._ask("/api/v0/cluster_metadata")["pythonVersion"]
        self._require_same("Python", python, platform.python_version())

    def _require_same(self, what: str, theirs: str, ours: str) -> None:
        if theirs.split(".")[:2] != ours.split(".")[:2]:
            raise IrmasError(
                f"the cluster at {self.get_address()} runs {what} {theirs}, this is {what} "
                f"{ours}: use the same minor release on both sides"
            )

    def require_capacity(self, cpus: float, gpus: float) -> None:
        """Refuse what no node of the cluster can ever hold, unless nodes can be added.

        Ray itself keeps such a job pending for a quarter of an hour.

        Args:
            cpus: CPUs on one node.
            gpus: GPUs on the same node.
        """
        if not (cpus or gpus):
            return
        nodes = [
            node["resources_total"]
            for node in self._ask("/api/v0/nodes?detail=true")["result"]["result"]
            if node["state"] == "ALIVE"
        ]
        if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            return
        wanted = f"{cpus:g} CPUs and {gpus:g} GPUs on one node"
        kinds = Counter(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        there = ", ".join(f"{kind} on {count} nodes" for kind, count in kinds.items())
        if not self._may_grow():
            raise IrmasError(
                f"the command itself is to have {wanted}, and the cluster at "
                f"{self.get_address()} has {there}: ask for less with --cpus and --gpus, "
                "or add a node"
            )
        say(f"no node has {wanted} ({there}): the job waits until one is added")

    def _may_grow(self) -> bool:
        """Return whether an autoscaler may add nodes: false only when it is sure that none does.

        Without one, Ray reports every node as of a type of its own, named after the node.
        """
        status = self._ask("/api/cluster_status").get("clusterStatus")
        if status is None:  # What the second generation of autoscalers leaves.
            return True
        types = (status.get("autoscalerReport") or {}).get("nodeTypeMapping") or {}
        return any(kind != f"node_{node}" for node, kind in types.items())

    def _ask(self, endpoint: str) -> dict[str, Any]:
        """Return the data of an answer of the dashboard's own API."""
        answer = self._do_request("GET", endpoint)
        if answer.status_code != 200:
            self._raise_error(answer)
        data: dict[str, Any] = answer.json()["data"]
        return data


def connect(address: str | None) -> Client:
    """Return a client of the cluster, which has answered.

    The token is sent only to a cluster that asks for one. Ray's own client leaves it out
    unless RAY_AUTH_MODE is set here, even when the cluster found and uses the same token.
    """
    url = dashboard_url(address)
    with _ray_uses(url), one_line_errors(url):
        try:
            return Client(url)
        except AuthenticationError:
            token = _token()
            if token is None:
                raise
            return Client(url, headers={"Authorization": f"Bearer {token}"})


@contextmanager
def one_line_errors(url: str) -> Iterator[None]:
    """Turn what Ray's client raises, often a page long, into one line that says what to do."""
    try:
        yield
    except AuthenticationError as error:
        wrong = error.message.startswith("Authentication failed")
        raise IrmasError(
            f"the Ray cluster at {url} {'refuses this token' if wrong else 'wants a token'}: "
            "set RAY_AUTH_TOKEN to the one it was started with, or RAY_AUTH_TOKEN_PATH to its "
            "file (else ~/.ray/auth_token is read)"
        ) from error
    except OSError as error:
        if error.filename:  # A file of the working directory, not the connection.
            raise IrmasError(f"{error.filename}: {error.strerror}") from error
        raise IrmasError(
            f"no Ray cluster answers at {url}: start one with `ray start --head`, or name the "
            f"dashboard of another (port {DASHBOARD_PORT} as a rule) with --address or "
            "RAY_API_SERVER_ADDRESS"
        ) from error
    except (RuntimeError, ValueError) as error:
        # A failure inside the cluster arrives as a traceback, which ends with its reason.
        reason = str(error).rstrip(".\n").splitlines()[-1]
        raise IrmasError(f"the Ray cluster at {url} refuses: {reason}") from error


@contextmanager
def _ray_uses(url: str) -> Iterator[None]:
    """Make Ray's client use ``url``: the environment goes before the address it is given."""
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = url
    try:
        yield
    finally:
        del os.environ["RAY_API_SERVER_ADDRESS"]
        if before is not None:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


def _token() -> str | None:
    """Return the cluster's token, looked for where ``ray start`` looks for it."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip()
    except OSError:
        return None

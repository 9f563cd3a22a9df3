"""The client of a Ray cluster's dashboard: its address, its token, time limits, errors.

Ray's own client has no time limits, omits the token, and raises pages of text; the client of
`connect` has time limits and the token, and `one_line_errors` shortens its errors.
"""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from pydantic import ValidationError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from irmas_dist.environment import set_variables
from irmas_dist.errors import IrmasError

DASHBOARD_PORT = 8265
"""Ray's default port for the dashboard, which serves the Jobs API."""

ADDRESS = re.compile(
    r"((?P<scheme>https?|ray)://)?(?P<host>\[[\da-fA-F:.]+\]|[^\s:/?#\[\]]+)"
    r"(:(?P<port>\d{1,5}))?(?P<path>/[^\s?#]*)?"
)
"""The address of a dashboard, or of a cluster."""

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 120.0


def dashboard_url(address: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the dashboard at ``address``.

    ``http://…``, ``https://…``, ``host:port`` and ``host`` (with port 8265) name the dashboard
    itself; of ``ray://host:port`` only the host is used, with port 8265. Without an address, or
    with ``auto``, RAY_API_SERVER_ADDRESS is read in the same way, then the host in RAY_ADDRESS
    (its port is not the dashboard's); the default is this machine.

    Raises:
        IrmasError: It is none of these. The message has no user and no password.
    """
    if address in (None, "auto"):
        address = environment.get("RAY_API_SERVER_ADDRESS")
    if not address:
        address = environment.get("RAY_ADDRESS") or "auto"
        if "://" not in address:
            address = f"ray://{address}"
    if "@" in address:
        raise IrmasError(
            "the address of a dashboard has no user and no password: leave them out; the token of "
            "a cluster belongs in RAY_AUTH_TOKEN"
        )
    found = ADDRESS.fullmatch(address)
    if not found or (found["port"] and not 0 < int(found["port"]) < 2**16):
        raise IrmasError(
            f"{address!r} is not the address of a dashboard: that is http://host:{DASHBOARD_PORT}, "
            f"host:{DASHBOARD_PORT} or ray://host"
        )
    scheme, host, port, path = (found[part] or "" for part in ("scheme", "host", "port", "path"))
    if scheme.startswith("http"):
        return address.rstrip("/")
    if host in ("auto", "local"):
        host = "127.0.0.1"
    if scheme == "ray":
        port = path = ""
    return f"http://{host}:{port or DASHBOARD_PORT}{path.rstrip('/')}"


class Client(JobSubmissionClient):
    """Ray's client with a time limit on every request."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        limits = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        return super()._do_request(method, endpoint, timeout=limits, **options)

    def require_same_versions(self) -> None:
        """Refuse a cluster, whose Ray and Python a job runs on, with other minor releases."""
        python = self._ask("/api/v0/cluster_metadata")["pythonVersion"]
        for name, theirs, ours in (
            ("Ray", self._server_ray_version, ray.__version__),
            ("Python", python, platform.python_version()),
        ):
            if theirs.split(".")[:2] != ours.split(".")[:2]:
                raise IrmasError(
                    f"the cluster at {self.get_address()} runs {name} {theirs}, this is {name} "
                    f"{ours}: use the same minor release on both sides"
                )

    def nodes(self) -> list[dict[str, float]]:
        """Return the total resources of each living node, by Ray's names."""
        nodes = self._ask("/api/v0/nodes?detail=true")["result"]["result"]
        return [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]

    def may_add_nodes(self) -> bool:
        """Return whether an autoscaler may add nodes; false only if there certainly is none.

        Without an autoscaler, Ray reports for every node a type named after the node.
        """
        status = self._ask("/api/cluster_status").get("clusterStatus")
        if status is None:  # The second generation of autoscalers reports nothing here.
            return True
        types = (status.get("autoscalerReport") or {}).get("nodeTypeMapping") or {}
        return any(kind != f"node_{node}" for node, kind in types.items())

    def _ask(self, endpoint: str) -> dict[str, Any]:
        """Return the data in an answer of the dashboard's own API."""
        answer = self._do_request("GET", endpoint)
        if answer.status_code != 200:
            self._raise_error(answer)
        return dict(answer.json()["data"])


def connect(address: str | None) -> Client:
    """Return a client that is connected to the cluster.

    The token is sent only to a cluster that asks for one.

    Raises:
        IrmasError: No cluster answers at the address, or it refuses the token.
    """
    url = dashboard_url(address)
    # The environment overrides the address that Ray's client is given.
    with set_variables({"RAY_API_SERVER_ADDRESS": url}), one_line_errors(url):
        try:
            return Client(url)
        except AuthenticationError:
            token = _token()
            if token is None:
                raise
            return Client(url, headers={"Authorization": f"Bearer {token}"})


@contextmanager
def one_line_errors(url: str) -> Iterator[None]:
    """Turn the errors of Ray's client, often a page long, into one line that says what to do."""
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
        if error.filename:  # A file in the working directory, not the connection.
            raise IrmasError(f"{error.filename}: {error.strerror}") from error
        raise IrmasError(
            f"no Ray cluster answers at {url}: start one with `ray start --head`, or name the "
            f"dashboard of another (usually port {DASHBOARD_PORT}) with --address or "
            "RAY_API_SERVER_ADDRESS"
        ) from error
    except (AttributeError, LookupError, TypeError, ValidationError) as error:
        raise IrmasError(
            f"what answers at {url} does not answer as a Ray {ray.__version__} does: name the "
            "dashboard of a cluster with --address or RAY_API_SERVER_ADDRESS"
        ) from error
    except (RuntimeError, ValueError) as error:
        # An error on the cluster arrives as a traceback, which ends with its reason.
        last = (str(error).rstrip(".\n") or type(error).__name__).splitlines()[-1]
        reason = re.sub(r"^[\w.]+(Error|Exception): ", "", last)
        raise IrmasError(f"the Ray cluster at {url} refuses: {reason}") from error


def _token() -> str | None:
    """Return the cluster's token from the places where ``ray start`` looks for it."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.read_text().strip() if path.is_file() else None

"""The dashboard of a Ray cluster: where it is, the token it wants, a client that gives up in time.

Ray's own client waits for ever, leaves out the token, and fails with pages of text; the one
from `connect` has time limits, and `one_line_errors` puts its failures into one line.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from irmas_dist.errors import IrmasError

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

    def require_same_ray(self) -> None:
        """Refuse a cluster on which a job would import another minor release of Ray."""
        theirs = self._server_ray_version
        if theirs.split(".")[:2] != ray.__version__.split(".")[:2]:
            raise IrmasError(
                f"the cluster at {self.get_address()} runs Ray {theirs}, this is Ray "
                f"{ray.__version__}: install the same minor release on both sides"
            )


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

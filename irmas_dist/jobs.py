"""Jobs on a running Ray cluster: submit a command, follow its log, list, stop.

Everything goes over HTTP to the cluster's dashboard, so the cluster may be on another
machine. A job runs on the cluster, in a temporary copy of the code that is deleted
after it: its inputs and outputs must be absolute paths or URLs that the nodes can reach.
"""

import asyncio
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient, JobType
from rich.markup import escape

from irmas_dist.errors import IrmasError
from irmas_dist.terminal import say

DASHBOARD_PORT = 8265
"""Ray's default port for the dashboard, which serves the Jobs API."""

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 120.0

SILENCE_S = 60.0
"""A log connection that is silent for this long is opened anew: it may be dead."""

RECONNECT_EVERY_S = 1.0

NEVER = datetime.fromtimestamp(0, UTC)

PATIENCE_S = 300.0
"""Following a job is given up when its cluster has not answered for this long."""

ENTRYPOINT = ("python", "-m", "irmas_dist")

EXCLUDES = (
    *(".git", ".env", ".venv", "venv", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"),
    *("/build", "/dist", "/data", "/runs", "/tests", "wandb"),
    *("*.wav", "*.flac", "*.mp3", "*.ogg", "*.aiff", "*.npy", "*.parquet"),
    *("*.pt", "*.safetensors", "*.onnx", "*.zip", "*.tar", "*.tar.gz", "*.tgz"),
)
"""What is never packed with the code (gitignore patterns): data, results, secrets, caches."""

PASSED = re.compile(r"WANDB_(API_KEY|BASE_URL|ENTITY|PROJECT|MODE)|AWS_\w+|IRMAS_\w+")
"""Environment variables that go with a job."""

NAMES_A_LOCAL_FILE = re.compile(r"AWS_(CA_BUNDLE|CONFIG_FILE|\w+_(CREDENTIALS|TOKEN)_FILE)")
"""The ones among them that stay: they point to files that the cluster does not have."""


@dataclass(frozen=True)
class Job:
    """A submitted job, as it was when asked for.

    Ray also hands out a job's runtime environment, in which the passed secrets stand
    in clear; it is left out here so that nothing can print it.
    """

    submission_id: str
    status: JobStatus
    entrypoint: str
    message: str | None
    started: datetime | None
    ended: datetime | None
    driver_exit_code: int | None


def submit(
    command: Sequence[str],
    *,
    address: str | None,
    name: str | None,
    working_dir: Path | None,
    environment: Mapping[str, str],
    entrypoint: Sequence[str] = ENTRYPOINT,
) -> str:
    """Submit a command to a cluster and return its submission id.

    A name that is still running is not started a second time: its id is returned. A name
    that has ended is submitted again as ``name-2``, ``name-3`` and so on. Either is said.

    Args:
        command: The arguments of ``irmas``, such as ``["train", "--config", "x.yaml"]``.
        address: The cluster, as for `dashboard_url`.
        name: The submission id to use; Ray makes one up when there is none.
        working_dir: The directory to pack and to run in. Without one it is the checkout
            that this package runs from; an installed package sends nothing, and the
            nodes are expected to have it installed as well.
        environment: Where `passed_environment` picks variables from.
        entrypoint: What ``command`` is appended to.

    Raises:
        IrmasError: The cluster cannot be used, runs another Ray, or refuses the job.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        # Ray keeps a job whose name cannot be a file name as pending for ever.
        raise IrmasError(f"{name!r} cannot name a job: use letters, digits, '.', '_' and '-'")
    client = _connect(address)
    client.require_same_ray()
    with _told(client.get_address()):
        if name is not None:
            name, running = _free_name(client, name)
            if running:
                return name
        runtime_env: dict[str, Any] = {"env_vars": passed_environment(environment)}
        if directory := working_dir or _checkout():
            runtime_env |= {"working_dir": str(directory), "excludes": list(EXCLUDES)}
        submission_id: str = client.submit_job(
            entrypoint=shlex.join([*entrypoint, *command]),
            submission_id=name,
            runtime_env=runtime_env,
        )
    return submission_id


def follow(
    submission_id: str,
    address: str | None,
    write: Callable[[str], None],
    *,
    patience_s: float = PATIENCE_S,
) -> JobStatus:
    """Write a job's log as it grows, from its start to the job's end.

    Dropped connections are opened again and nothing is written twice. An interrupt ends
    the following, not the job.

    Args:
        submission_id: The job.
        address: The cluster, as for `dashboard_url`.
        write: Takes the log piece by piece, line ends included.
        patience_s: How long the cluster may be out of reach.

    Returns:
        The status that the job ended with.

    Raises:
        IrmasError: There is no such job, or its cluster stays out of reach.
    """
    client = _connect(address)
    _find(client, submission_id)
    return asyncio.run(_follow(client, submission_id, write, patience_s))


def list_jobs(address: str | None) -> list[Job]:
    """Return the cluster's submitted jobs, the latest first.

    Raises:
        IrmasError: The cluster cannot be used.
    """
    return _list(_connect(address))


def status(submission_id: str, address: str | None) -> Job:
    """Return what is known of a job.

    Raises:
        IrmasError: There is no such job, or the cluster cannot be used.
    """
    return _find(_connect(address), submission_id)


def logs(submission_id: str, address: str | None) -> str:
    """Return a job's log so far.

    Raises:
        IrmasError: There is no such job, or its log cannot be read.
    """
    client = _connect(address)
    _find(client, submission_id)
    with _told(client.get_address()):
        text: str = client.get_job_logs(submission_id)
    return text


def stop(submission_id: str, address: str | None) -> bool:
    """Ask a job to stop and return at once; false when it had ended already.

    Raises:
        IrmasError: There is no such job, or the cluster cannot be used.
    """
    client = _connect(address)
    _find(client, submission_id)
    with _told(client.get_address()):
        return bool(client.stop_job(submission_id))


def exit_code(job: Job) -> int:
    """Return the exit code that stands for how a job ended: its own where it is known.

    A job that a signal ended gets 128 plus the signal's number, as in a shell; one that
    was stopped, or that never started, gets 1.
    """
    if job.driver_exit_code is None:
        return 0 if job.status == JobStatus.SUCCEEDED else 1
    return job.driver_exit_code if job.driver_exit_code >= 0 else 128 - job.driver_exit_code


def passed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that go with a job: for W&B, for object stores, and our own.

    The values travel in the job's runtime environment, which everyone who may submit
    jobs to the cluster can read.
    """
    return {
        name: value
        for name, value in environment.items()
        if PASSED.fullmatch(name) and not NAMES_A_LOCAL_FILE.fullmatch(name)
    }


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


def _checkout() -> Path | None:
    """Return the source tree that this package runs from, unless it is installed."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else None


class _Client(JobSubmissionClient):
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


def _connect(address: str | None) -> _Client:
    """Return a client of the cluster, which has answered.

    The token is sent only to a cluster that asks for one. Ray's own client leaves it out
    unless RAY_AUTH_MODE is set here, even when the cluster found and uses the same token.
    """
    url = dashboard_url(address)
    with _ray_uses(url), _told(url):
        try:
            return _Client(url)
        except AuthenticationError:
            token = _token()
            if token is None:
                raise
            return _Client(url, headers={"Authorization": f"Bearer {token}"})


def _token() -> str | None:
    """Return the cluster's token, looked for where ``ray start`` looks for it."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip()
    except OSError:
        return None


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


@contextmanager
def _told(url: str) -> Iterator[None]:
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


def _list(client: _Client) -> list[Job]:
    with _told(client.get_address()):
        found = [job for job in client.list_jobs() if job.type == JobType.SUBMISSION]
    return sorted(map(_job, found), key=lambda job: job.started or NEVER, reverse=True)


def _job(details: Any) -> Job:
    def moment(milliseconds: int | None) -> datetime | None:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None

    return Job(
        submission_id=details.submission_id,
        status=details.status,
        entrypoint=details.entrypoint,
        message=details.message,
        started=moment(details.start_time),
        ended=moment(details.end_time),
        driver_exit_code=details.driver_exit_code,
    )


def _find(client: _Client, submission_id: str) -> Job:
    jobs = {job.submission_id: job for job in _list(client)}
    if submission_id not in jobs:
        latest = ", ".join(list(jobs)[:10]) or "none"
        raise IrmasError(
            f"no job {submission_id!r} at {client.get_address()}; the latest jobs there: {latest}"
        )
    return jobs[submission_id]


def _free_name(client: _Client, name: str) -> tuple[str, bool]:
    """Return the first of name, name-2, … that runs or was never used, and whether it runs."""
    jobs = {job.submission_id: job for job in _list(client)}
    candidate, count = name, 1
    while candidate in jobs:
        job = jobs[candidate]
        if not job.status.is_terminal():
            say(f"job {candidate} is {job.status.lower()} already: {escape(job.entrypoint)}")
            return candidate, True
        count += 1
        candidate = f"{name}-{count}"
    if candidate != name:
        say(f"job {name} has ended before: this one is {candidate}")
    return candidate, False


async def _follow(
    client: _Client, submission_id: str, write: Callable[[str], None], patience_s: float
) -> JobStatus:
    written = 0
    answered = time.monotonic()
    while True:
        written = await _tail(client, submission_id, written, write)
        # A connection that closes tidily does not mean that the job has ended.
        try:
            job = _find(client, submission_id)
            if job.status.is_terminal():
                break
            answered = time.monotonic()
        except IrmasError as error:
            if time.monotonic() - answered > patience_s:
                raise IrmasError(f"lost sight of job {submission_id}: {error}") from error
        await asyncio.sleep(RECONNECT_EVERY_S)
    try:
        with _told(client.get_address()):
            rest = client.get_job_logs(submission_id)[written:]
    except IrmasError as error:
        say(f"the end of the log of job {submission_id} cannot be read: {escape(str(error))}")
    else:
        if rest:
            write(rest)
    return job.status


async def _tail(
    client: _Client, submission_id: str, written: int, write: Callable[[str], None]
) -> int:
    """Write a log from character ``written`` on until its connection ends, however it ends.

    Ray sends a log from its first character on every connection. Returns how many have
    been written in all.
    """
    received = 0
    async with aclosing(client.tail_job_logs(submission_id)) as stream:
        while True:
            try:
                piece = await asyncio.wait_for(anext(stream), SILENCE_S)
            except (StopAsyncIteration, RuntimeError, aiohttp.ClientError, OSError):
                return written
            received += len(piece)
            if received > written:
                write(piece[written - received :])
                written = received

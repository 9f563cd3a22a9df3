"""Jobs on a running Ray cluster: submit a command, follow its log, list, stop.

All requests go over HTTP to the cluster's dashboard, so the cluster may be on another
machine. A job runs on the cluster, in a temporary copy of the code that is deleted
after it: its inputs and outputs must be absolute paths or URLs that the nodes can reach.
Every function raises IrmasError if the cluster cannot be used.
"""

import asyncio
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from ray.job_submission import JobStatus, JobType

from irmas_dist.cluster.job_client import Client, connect, one_line_errors
from irmas_dist.cluster.packaging import checkout, left_behind, pack
from irmas_dist.cluster.resources import require_job_capacity
from irmas_dist.errors import PASSWORD, IrmasError
from irmas_dist.terminal import say

LOG_TIMEOUT_S = 60.0
"""A log connection without data for this long is reopened, since it may be dead."""

PENDING_NOTICE_S = 10.0
"""If a job has not started after this long, Ray's reason is shown."""


@dataclass(frozen=True)
class Job:
    """A submitted job at the time of the request.

    Ray also returns a job's runtime environment, with the passed secrets in plain text;
    it is left out here so that nothing can print it.
    """

    submission_id: str
    status: JobStatus
    entrypoint: str
    message: str | None
    started: datetime | None
    ended: datetime | None
    driver_exit_code: int | None

    @property
    def exit_code(self) -> int:
        """The job's own exit code if it is known, else 0 for a success and 1 otherwise.

        As in a shell, a job that a signal ended has 128 plus the signal's number.
        """
        if self.driver_exit_code is None:
            return 0 if self.status == JobStatus.SUCCEEDED else 1
        return self.driver_exit_code if self.driver_exit_code >= 0 else 128 - self.driver_exit_code


def submit(
    command: Sequence[str],
    *,
    address: str | None,
    name: str | None,
    working_dir: Path | None,
    environment: Mapping[str, str],
    cpus: float = 0.0,
    gpus: float = 0.0,
    entrypoint: Sequence[str] = ("python", "-m", "irmas_dist"),
) -> str:
    """Submit a command to a cluster and return its submission id.

    If a job of that name is running, nothing is submitted and its id is returned. If it
    has ended, the new one is called ``name-2``, ``name-3`` and so on. Both are reported.

    Args:
        command: The arguments of ``irmas``, such as ``["train", "--config", "x.yaml"]``.
        address: The cluster, as for `job_client.dashboard_url`.
        name: The submission id; Ray chooses one if there is none.
        working_dir: The directory to pack and to run in. None packs the checkout that
            this package runs from; an installed package sends no code and must be
            installed on the nodes as well.
        environment: The job's variables, as from `packaging.passed_environment`.
        cpus: CPUs reserved for the command's own process, besides those that it requests
            itself. With none it runs on the head, otherwise on any node that has them.
        gpus: GPUs reserved for the command's own process.
        entrypoint: The program that ``command`` is appended to.

    Raises:
        IrmasError: The cluster runs another Ray or Python, lacks the resources, or refuses
            the job, for example because the directory is too large.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        # Ray keeps a job whose name cannot be a file name as pending for ever.
        raise IrmasError(f"{name!r} cannot name a job: use letters, digits, '.', '_' and '-'")
    if any(PASSWORD.search(argument) for argument in command):
        raise IrmasError(
            "the command has a URL with a password, which everyone who may list the cluster's "
            "jobs could read: leave it out of the URL; PGPASSWORD is sent with the job"
        )
    client = connect(address)
    with one_line_errors(client.get_address()):
        client.require_same_versions()
        if name is not None:
            name, running = _free_name(client, name)
            if running:
                return name
        require_job_capacity(client, cpus, gpus)
    runtime_env: dict[str, Any] = {"env_vars": dict(environment)}
    with tempfile.TemporaryDirectory(prefix="irmas-") as package:
        if directory := working_dir or checkout():
            try:
                pack(directory, Path(package))
            except OSError as error:
                raise IrmasError(f"{directory} cannot be packed: {error}") from error
            runtime_env["working_dir"] = package
        if local := left_behind(command[1:], directory):
            say(
                f"the job will not see {', '.join(local)} from here: it runs in a copy of "
                "the code on the cluster; name inputs and outputs by absolute paths or URLs there"
            )
        with one_line_errors(client.get_address()):
            submission_id: str = client.submit_job(
                entrypoint=shlex.join([*entrypoint, *command]),
                submission_id=name,
                runtime_env=runtime_env,
                entrypoint_num_cpus=cpus or None,
                entrypoint_num_gpus=gpus or None,
            )
    say(f"submitted {submission_id}")
    return submission_id


def follow(
    submission_id: str,
    address: str | None,
    write: Callable[[str], None],
    *,
    timeout_s: float = 300.0,
) -> Job:
    """Write a job's log as it grows, from its start until the job ends; return the ended job.

    Dropped connections are opened again, and nothing is written twice. An interrupt ends
    the following, not the job.

    Args:
        submission_id: The job.
        address: The cluster, as for `job_client.dashboard_url`.
        write: Takes the log piece by piece, line ends included.
        timeout_s: How long the cluster may be unreachable.

    Raises:
        IrmasError: There is no such job, or its cluster stays unreachable.
    """
    client = connect(address)
    return asyncio.run(_follow(client, _find(client, submission_id), write, timeout_s))


def list_jobs(address: str | None) -> list[Job]:
    """Return the cluster's submitted jobs, the latest first."""
    return _list(connect(address))


def status(submission_id: str, address: str | None) -> Job:
    """Return a job.

    Raises:
        IrmasError: There is no such job.
    """
    return _find(connect(address), submission_id)


def logs(submission_id: str, address: str | None) -> str:
    """Return a job's log so far.

    Raises:
        IrmasError: There is no such job, or its log cannot be read.
    """
    client = connect(address)
    _find(client, submission_id)
    with one_line_errors(client.get_address()):
        return str(client.get_job_logs(submission_id))


def stop(submission_id: str, address: str | None) -> bool:
    """Ask a job to stop, without waiting for it; return false if it had ended already.

    Raises:
        IrmasError: There is no such job.
    """
    client = connect(address)
    # Ray itself stops whatever still has a process, which a job has for a while after its end.
    if _find(client, submission_id).status.is_terminal():
        return False
    with one_line_errors(client.get_address()):
        return bool(client.stop_job(submission_id))


def _list(client: Client) -> list[Job]:
    def moment(milliseconds: int | None) -> datetime | None:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None

    with one_line_errors(client.get_address()):
        submitted = [job for job in client.list_jobs() if job.type == JobType.SUBMISSION]
    return [
        Job(
            submission_id=job.submission_id,
            status=job.status,
            entrypoint=job.entrypoint,
            message=job.message,
            started=moment(job.start_time),
            ended=moment(job.end_time),
            driver_exit_code=job.driver_exit_code,
        )
        for job in sorted(submitted, key=lambda job: job.start_time or 0, reverse=True)
    ]


def _find(client: Client, submission_id: str) -> Job:
    jobs = {job.submission_id: job for job in _list(client)}
    if submission_id not in jobs:
        latest = ", ".join(list(jobs)[:10]) or "none"
        raise IrmasError(
            f"no job {submission_id!r} at {client.get_address()}; the latest jobs there: {latest}"
        )
    return jobs[submission_id]


def _free_name(client: Client, name: str) -> tuple[str, bool]:
    """Return the first of name, name-2, … that is running or unused, and whether it is running."""
    jobs = {job.submission_id: job for job in _list(client)}
    candidate, count = name, 1
    while job := jobs.get(candidate):
        if not job.status.is_terminal():
            say(f"job {candidate} is {job.status.lower()} already: {job.entrypoint}")
            return candidate, True
        count += 1
        candidate = f"{name}-{count}"
    if candidate != name:
        say(f"job {name} has ended before: this one is {candidate}")
    return candidate, False


async def _follow(client: Client, job: Job, write: Callable[[str], None], timeout_s: float) -> Job:
    submission_id = job.submission_id
    written = 0
    explained = False
    began = answered = time.monotonic()
    while True:
        if job.status != JobStatus.PENDING:  # A pending job has no log to wait for.
            written = await _tail(client, submission_id, written, write)
        # The connection may have closed before the end of the job.
        try:
            job = _find(client, submission_id)
            if job.status.is_terminal():
                break
            answered = time.monotonic()
        except IrmasError as error:
            if time.monotonic() - answered > timeout_s:
                raise IrmasError(f"lost contact with job {submission_id}: {error}") from error
        waited_s = answered - began
        if job.status == JobStatus.PENDING and waited_s > PENDING_NOTICE_S and not explained:
            say(f"job {submission_id} is pending: {job.message or 'no reason given'}")
            explained = True
        await asyncio.sleep(1.0)
    try:
        with one_line_errors(client.get_address()):
            rest = client.get_job_logs(submission_id)[written:]
    except IrmasError as error:
        say(f"the end of the log of job {submission_id} cannot be read: {error}")
    else:
        if rest:
            write(rest)
    return job


async def _tail(
    client: Client, submission_id: str, written: int, write: Callable[[str], None]
) -> int:
    """Write a log from character ``written`` on until its connection ends, for any reason.

    Ray sends a log from its first character on every connection. Returns the number of
    characters written in all.
    """
    received = 0
    async with aclosing(client.tail_job_logs(submission_id)) as stream:
        while True:
            try:
                piece = await asyncio.wait_for(anext(stream), LOG_TIMEOUT_S)
            except (StopAsyncIteration, RuntimeError, aiohttp.ClientError, OSError):
                return written
            received += len(piece)
            if received > written:
                write(piece[written - received :])
                written = received

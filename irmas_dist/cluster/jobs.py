"""Jobs on a running Ray cluster: submit a command, follow its log, list, stop.

Everything goes over HTTP to the cluster's dashboard, so the cluster may be on another
machine. A job runs on the cluster, in a temporary copy of the code that is deleted
after it: its inputs and outputs must be absolute paths or URLs that the nodes can reach.
"""

import asyncio
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from ray.job_submission import JobStatus, JobType
from rich.markup import escape

from irmas_dist.cluster.job_client import Client, connect, one_line_errors
from irmas_dist.cluster.packaging import EXCLUDES, checkout, left_behind, require_packable
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import say

SILENCE_S = 60.0
"""A log connection that is silent for this long is opened anew: it may be dead."""

RECONNECT_EVERY_S = 1.0

PATIENCE_S = 300.0
"""Following a job is given up when its cluster has not answered for this long."""

PENDING_S = 10.0
"""Of a job that has not started after this long, it is said what it may be waiting for."""

ENTRYPOINT = ("python", "-m", "irmas_dist")

PASSWORD = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
"""A password in a URL, such as a database's."""


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
    cpus: float = 0.0,
    gpus: float = 0.0,
    entrypoint: Sequence[str] = ENTRYPOINT,
) -> str:
    """Submit a command to a cluster and return its submission id.

    A name that is still running is not started a second time: its id is returned. A name
    that has ended is submitted again as ``name-2``, ``name-3`` and so on. Either is said.

    Args:
        command: The arguments of ``irmas``, such as ``["train", "--config", "x.yaml"]``.
        address: The cluster, as for `dashboard.dashboard_url`.
        name: The submission id to use; Ray makes one up when there is none.
        working_dir: The directory to pack and to run in. Without one it is the checkout
            that this package runs from; an installed package sends nothing, and the
            nodes are expected to have it installed as well.
        environment: Variables that the job gets, as from `packing.passed_environment`.
        cpus: CPUs reserved for the command itself, besides those that it asks for when it
            runs. Without any it runs on the head, and with some wherever there is room.
        gpus: GPUs reserved for the command itself.
        entrypoint: What ``command`` is appended to.

    Raises:
        IrmasError: The cluster cannot be used, runs another Ray or Python, has no room for
            the job or refuses it, or the directory is too large.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        # Ray keeps a job whose name cannot be a file name as pending for ever.
        raise IrmasError(f"{name!r} cannot name a job: use letters, digits, '.', '_' and '-'")
    if any(PASSWORD.search(argument) for argument in command):
        raise IrmasError(
            "the command has a URL with a password, which everyone could read who may list the "
            "cluster's jobs: leave it out of the URL; PGPASSWORD goes along with the job"
        )
    client = connect(address)
    with one_line_errors(client.get_address()):
        client.require_same_versions()
        if name is not None:
            name, running = _free_name(client, name)
            if running:
                return name
        client.require_capacity(cpus, gpus)
        directory = working_dir or checkout()
        if missed := left_behind(command[1:], directory):
            say(
                f"the job will not see {escape(', '.join(missed))} from here: it runs in a copy of "
                "the code on the cluster; name inputs and outputs by absolute paths or URLs there"
            )
        runtime_env: dict[str, Any] = {"env_vars": dict(environment)}
        if directory:
            require_packable(directory)
            runtime_env |= {"working_dir": str(directory), "excludes": list(EXCLUDES)}
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
    patience_s: float = PATIENCE_S,
) -> JobStatus:
    """Write a job's log as it grows, from its start to the job's end.

    Dropped connections are opened again and nothing is written twice. An interrupt ends
    the following, not the job.

    Args:
        submission_id: The job.
        address: The cluster, as for `dashboard.dashboard_url`.
        write: Takes the log piece by piece, line ends included.
        patience_s: How long the cluster may be out of reach.

    Returns:
        The status that the job ended with.

    Raises:
        IrmasError: There is no such job, or its cluster stays out of reach.
    """
    client = connect(address)
    job = _find(client, submission_id)
    return asyncio.run(_follow(client, job, write, patience_s))


def list_jobs(address: str | None) -> list[Job]:
    """Return the cluster's submitted jobs, the latest first.

    Raises:
        IrmasError: The cluster cannot be used.
    """
    return _list(connect(address))


def status(submission_id: str, address: str | None) -> Job:
    """Return what is known of a job.

    Raises:
        IrmasError: There is no such job, or the cluster cannot be used.
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
        text: str = client.get_job_logs(submission_id)
    return text


def stop(submission_id: str, address: str | None) -> bool:
    """Ask a job to stop and return at once; false when it had ended already.

    Raises:
        IrmasError: There is no such job, or the cluster cannot be used.
    """
    client = connect(address)
    _find(client, submission_id)
    with one_line_errors(client.get_address()):
        return bool(client.stop_job(submission_id))


def exit_code(job: Job) -> int:
    """Return the exit code that stands for how a job ended: its own where it is known.

    A job that a signal ended gets 128 plus the signal's number, as in a shell; one that
    was stopped, or that never started, gets 1.
    """
    if job.driver_exit_code is None:
        return 0 if job.status == JobStatus.SUCCEEDED else 1
    return job.driver_exit_code if job.driver_exit_code >= 0 else 128 - job.driver_exit_code


def _list(client: Client) -> list[Job]:
    with one_line_errors(client.get_address()):
        found = [job for job in client.list_jobs() if job.type == JobType.SUBMISSION]
    return [_job(job) for job in sorted(found, key=lambda job: job.start_time or 0, reverse=True)]


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


def _find(client: Client, submission_id: str) -> Job:
    jobs = {job.submission_id: job for job in _list(client)}
    if submission_id not in jobs:
        latest = ", ".join(list(jobs)[:10]) or "none"
        raise IrmasError(
            f"no job {submission_id!r} at {client.get_address()}; the latest jobs there: {latest}"
        )
    return jobs[submission_id]


def _free_name(client: Client, name: str) -> tuple[str, bool]:
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
    client: Client, job: Job, write: Callable[[str], None], patience_s: float
) -> JobStatus:
    submission_id = job.submission_id
    written = 0
    began = answered = time.monotonic()
    told = False
    while True:
        if job.status != JobStatus.PENDING:  # There is no log yet, and waiting for it is silent.
            written = await _tail(client, submission_id, written, write)
        # A connection that closes tidily does not mean that the job has ended.
        try:
            job = _find(client, submission_id)
            if job.status.is_terminal():
                break
            answered = time.monotonic()
            if job.status == JobStatus.PENDING and not told and answered - began > PENDING_S:
                say(f"job {submission_id} is pending: {escape(job.message or 'no reason given')}")
                told = True
        except IrmasError as error:
            if time.monotonic() - answered > patience_s:
                raise IrmasError(f"lost sight of job {submission_id}: {error}") from error
        await asyncio.sleep(RECONNECT_EVERY_S)
    try:
        with one_line_errors(client.get_address()):
            rest = client.get_job_logs(submission_id)[written:]
    except IrmasError as error:
        say(f"the end of the log of job {submission_id} cannot be read: {escape(str(error))}")
    else:
        if rest:
            write(rest)
    return job.status


async def _tail(
    client: Client, submission_id: str, written: int, write: Callable[[str], None]
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

"""A job is followed: its log is written as it grows, until the job ends."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import aiohttp
from ray.job_submission import JobStatus

from irmas_dist.cluster.job_client import Client, connect, one_line_errors
from irmas_dist.cluster.submitted_jobs import Job, NoJobError, find_job
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import say

LOG_TIMEOUT_S = 60.0
"""A log connection without data for this long is reopened, since it may be dead."""

PENDING_NOTICE_S = 10.0
"""If a job has not started after this long, Ray's reason is shown."""


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
    return asyncio.run(_follow(client, find_job(client, submission_id), write, timeout_s))


async def _follow(client: Client, job: Job, write: Callable[[str], None], timeout_s: float) -> Job:
    submission_id = job.submission_id
    written = 0
    explained = False
    began = time.monotonic()
    unreachable_since = None
    while True:
        if job.status != JobStatus.PENDING:  # A pending job has no log to wait for.
            written = await _tail(client, submission_id, written, write)
        # The connection may have closed before the end of the job.
        try:
            job = find_job(client, submission_id)
            if job.status.is_terminal():
                break
            unreachable_since = None
        except NoJobError as error:
            raise NoJobError(f"{error}; it has lost this one: submit the command again") from error
        except IrmasError as error:
            if unreachable_since is None:
                unreachable_since = time.monotonic()
                say(f"{client.get_address()} does not answer: trying again for {timeout_s:g} s")
            if time.monotonic() - unreachable_since > timeout_s:
                raise IrmasError(f"lost contact with job {submission_id}: {error}") from error
        waited_s = time.monotonic() - began
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

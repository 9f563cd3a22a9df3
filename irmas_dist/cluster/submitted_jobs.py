"""The jobs that have been submitted to a cluster."""

from dataclasses import dataclass
from datetime import UTC, datetime

from ray.job_submission import JobStatus, JobType

from irmas_dist.cluster.job_client import Client, one_line_errors
from irmas_dist.errors import IrmasError


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


class NoJobError(IrmasError):
    """A cluster that answers has no such job."""


def jobs_of(client: Client) -> list[Job]:
    """Return the cluster's submitted jobs, the latest first."""

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


def find_job(client: Client, submission_id: str) -> Job:
    """Return a job.

    Raises:
        NoJobError: There is no such job.
    """
    jobs = {job.submission_id: job for job in jobs_of(client)}
    if submission_id not in jobs:
        latest = ", ".join(list(jobs)[:10]) or "none"
        raise NoJobError(
            f"no job {submission_id!r} at {client.get_address()}; the latest jobs there: {latest}"
        )
    return jobs[submission_id]

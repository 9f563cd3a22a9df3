"""The commands around Ray Jobs: submit, and list, status, logs and stop under ``irmas jobs``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from irmas_dist.shell import Json, quiet
from irmas_dist.terminal import say, write

Cluster = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The cluster's dashboard; none: RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265.",
    ),
]
JobId = Annotated[str, typer.Argument(help="Submission id, as 'irmas jobs list' shows it.")]

jobs_app = typer.Typer(help="Jobs on a Ray cluster: list, status, logs, stop.")
jobs_app.info.no_args_is_help = True


@quiet
def submit(
    command: Annotated[
        list[str], typer.Argument(help="Any irmas command, after --: -- train features model")
    ],
    address: Cluster = None,
    name: Annotated[
        str | None, typer.Option(help="Submission id; one that is running is not started again.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--detach", help="Follow the log and end as the job ends.")
    ] = True,
    working_dir: Annotated[
        Path | None, typer.Option(help="What to pack; none: this checkout, if it is one.")
    ] = None,
) -> None:
    """Run any irmas command on a Ray cluster."""
    from irmas_dist import jobs

    submission = jobs.submit(
        command, address=address, name=name, working_dir=working_dir, environment=os.environ
    )
    say(f"submitted {submission}")
    if wait:
        _follow(submission, address)


@jobs_app.command("list")
@quiet
def list_(address: Cluster = None, json: Json = False) -> None:
    """List the cluster's jobs, the latest first."""
    from irmas_dist import jobs, output

    output.job_list(jobs.list_jobs(address), json)


@jobs_app.command()
@quiet
def status(submission: JobId, address: Cluster = None, json: Json = False) -> None:
    """Show how a job is doing."""
    from irmas_dist import jobs, output

    output.job_list([jobs.status(submission, address)], json)


@jobs_app.command()
@quiet
def logs(
    submission: JobId,
    address: Cluster = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the job ends, and end as it ends.")
    ] = False,
) -> None:
    """Print a job's log."""
    from irmas_dist import jobs

    if follow:
        _follow(submission, address)
    else:
        write(jobs.logs(submission, address))


@jobs_app.command()
@quiet
def stop(submission: JobId, address: Cluster = None) -> None:
    """Stop a job."""
    from irmas_dist import jobs

    if jobs.stop(submission, address):
        say(f"stopped {submission}")
    else:
        say(f"{submission} had ended already")


def _follow(submission: str, address: str | None) -> None:
    from irmas_dist import jobs

    jobs.follow(submission, address, write)
    job = jobs.status(submission, address)
    say(f"{submission} {str(job.status.value).lower()}")
    if code := jobs.exit_code(job):
        raise typer.Exit(code)

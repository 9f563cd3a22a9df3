"""Commands for Ray jobs: ``irmas submit``, and ``irmas jobs`` list, status, logs and stop."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from irmas_dist.cli.arguments import WRITTEN
from irmas_dist.cli.command import MAX_COUNT, Json, command
from irmas_dist.cli.help import HelpfulCommand, HelpfulGroup
from irmas_dist.cli.tables import as_json
from irmas_dist.config.base import require_whole_gpus
from irmas_dist.errors import IrmasError
from irmas_dist.terminal import escape, say, show, write

if TYPE_CHECKING:
    from irmas_dist.cluster.submitted_jobs import Job

Cluster = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Dashboard URL or host; default: RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265.",
    ),
]
JobId = Annotated[str, typer.Argument(help="Submission id, as in 'irmas jobs list'.")]

jobs_app = typer.Typer(
    help="Jobs on a Ray cluster: list, status, logs, stop.",
    no_args_is_help=True,
    cls=HelpfulGroup,
)


@command
def submit(
    context: typer.Context,
    command: Annotated[
        list[str], typer.Argument(help="irmas command, after --: -- train features model")
    ],
    address: Cluster = None,
    name: Annotated[
        str | None, typer.Option(help="Submission id; a running job is not submitted twice.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--detach", help="Follow the log and exit with the job's code.")
    ] = True,
    working_dir: Annotated[
        Path | None, typer.Option(help="Directory to send; default: this checkout, if it is one.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            help="Environment variable to send, besides the keys and addresses of W&B, AWS, Azure "
            "and PostgreSQL. May be repeated."
        ),
    ] = None,
    cpus: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=MAX_COUNT,
            help="CPUs for the command itself; default: 0 if it uses Ray, else 1.",
        ),
    ] = None,
    gpus: Annotated[
        float,
        typer.Option(min=0, max=MAX_COUNT, help="GPUs for the command itself."),
    ] = 0.0,
) -> None:
    """Run an irmas command on a Ray cluster."""
    from irmas_dist.cluster import jobs
    from irmas_dist.cluster.packaging import passed_environment

    try:
        require_whole_gpus(gpus)
    except ValueError as error:
        raise typer.BadParameter(f"--gpus {gpus:g}: {error}") from error
    needs_cpu = not runs_on_ray(command, context.find_root().command)
    submission = jobs.submit(
        command, address=address, name=name, working_dir=working_dir,
        environment=passed_environment(os.environ, env or (), command[0]),
        cpus=float(needs_cpu) if cpus is None else cpus, gpus=gpus,
    )  # fmt: skip
    if wait:
        _follow(submission, address)


@jobs_app.command("list", cls=HelpfulCommand)
@command
def list_(address: Cluster = None, json: Json = False) -> None:
    """List the cluster's jobs, the latest first."""
    from irmas_dist.cluster import jobs

    _show(jobs.list_jobs(address), json)


@jobs_app.command(cls=HelpfulCommand)
@command
def status(submission: JobId, address: Cluster = None, json: Json = False) -> None:
    """Show the status of a job."""
    from irmas_dist.cluster import jobs

    _show([jobs.status(submission, address)], json)


@jobs_app.command(cls=HelpfulCommand)
@command
def logs(
    submission: JobId,
    address: Cluster = None,
    follow: Annotated[
        bool,
        typer.Option("-f", "--follow", help="Until the job ends, and exit with its code."),
    ] = False,
) -> None:
    """Print a job's log."""
    from irmas_dist.cluster import jobs

    if follow:
        _follow(submission, address)
    else:
        write(jobs.logs(submission, address))


@jobs_app.command(cls=HelpfulCommand)
@command
def stop(submission: JobId, address: Cluster = None) -> None:
    """Stop a job."""
    from irmas_dist.cluster import jobs

    stopped = jobs.stop(submission, address)
    say(f"stopped {submission}" if stopped else f"{submission} had ended already")


def runs_on_ray(command: list[str], commands: Any) -> bool:
    """Return whether a command works in Ray tasks rather than in its own process.

    One that cannot be parsed counts as such: the job may run another version of the code.

    Args:
        command: Name and arguments.
        commands: The group of all commands.

    Raises:
        IrmasError: The command would write into the job's own directory, which is deleted after it.
    """
    from irmas_dist.storage import is_url

    name, *arguments = command
    parser = commands.commands.get(name)
    if parser is None:
        return True
    given = parser.make_context(name, arguments, resilient_parsing=True).params
    places = [given.get(option) for option in WRITTEN]
    if given.get("study"):
        from irmas_dist.search.storages import file_of

        places.append(file_of(given["study"]))
    for path in places if not given.get("dry_run") else ():
        if path and not (is_url(path) or str(path) == "-" or Path(path).is_absolute()):
            raise IrmasError(
                f"{name} would write {path} into the job's own directory, which is deleted after "
                "it: name the result by an absolute path or URL that the nodes can reach"
            )
    match name:
        case "evaluate":  # Ray extracts the features of a tree.
            return bool(given.get("tree"))
        case "extract":
            return not given.get("preview")
        case "index":  # Of a very large tree Ray reads the files, beside that one CPU.
            return bool(given.get("address"))
        case "predict":
            return bool(given.get("workers") or given.get("address"))
    return "address" in given or name in ("demo", "jobs")


def _follow(submission: str, address: str | None) -> None:
    from irmas_dist.cluster.follow_job import follow

    try:
        job = follow(submission, address, write)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"the job goes on: 'irmas jobs logs -f {submission}' follows it, 'irmas jobs stop "
            f"{submission}' ends it"
        ) from error
    say(f"{submission} {str(job.status.value).lower()}")
    if job.exit_code:
        raise typer.Exit(job.exit_code)


def _show(found: Sequence["Job"], json_output: bool) -> None:
    if json_output:
        as_json({"jobs": [asdict(job) for job in found]})
        return
    # Two lines each, so that names and times fit in 80 columns.
    grid = Table(
        Column("job\ncommand", overflow="fold"),
        Column("status", no_wrap=True),
        Column("started\nended", no_wrap=True),
    )
    for job in found:
        times = (
            f"{when.astimezone():%Y-%m-%d %H:%M:%S}" if when else ""
            for when in (job.started, job.ended)
        )
        name = f"{escape(job.submission_id)}\n{escape(job.entrypoint)}"
        grid.add_row(name, job.status.value.lower(), "\n".join(times))
    show(grid)

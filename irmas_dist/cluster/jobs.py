"""Jobs on a running Ray cluster: submit a command, list, stop.

All requests go over HTTP to the cluster's dashboard, so the cluster may be on another
machine. A job runs on the cluster, in a temporary copy of the code that is deleted
after it: its inputs and outputs must be absolute paths or URLs that the nodes can reach.
Every function raises IrmasError if the cluster cannot be used.
"""

import re
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from irmas_dist.cluster.job_client import Client, connect, one_line_errors
from irmas_dist.cluster.packaging import checkout, left_behind, pack
from irmas_dist.cluster.resources import require_job_capacity
from irmas_dist.cluster.submitted_jobs import Job, find_job, jobs_of
from irmas_dist.errors import PASSWORD, IrmasError
from irmas_dist.terminal import say


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

    If a job of that name runs the same command, nothing is submitted and its id is returned. If it
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
            the job, for example because the directory is too large; or a job of that name runs
            another command.
    """
    started_by = shlex.join([*entrypoint, *command])
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
            name, running = _free_name(client, name, started_by)
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
                entrypoint=started_by,
                submission_id=name,
                runtime_env=runtime_env,
                entrypoint_num_cpus=cpus or None,
                entrypoint_num_gpus=gpus or None,
            )
    say(f"submitted {submission_id}")
    return submission_id


def list_jobs(address: str | None) -> list[Job]:
    """Return the cluster's submitted jobs, the latest first."""
    return jobs_of(connect(address))


def status(submission_id: str, address: str | None) -> Job:
    """Return a job.

    Raises:
        IrmasError: There is no such job.
    """
    return find_job(connect(address), submission_id)


def logs(submission_id: str, address: str | None) -> str:
    """Return a job's log so far.

    Raises:
        IrmasError: There is no such job, or its log cannot be read.
    """
    client = connect(address)
    find_job(client, submission_id)
    with one_line_errors(client.get_address()):
        return str(client.get_job_logs(submission_id))


def stop(submission_id: str, address: str | None, *, timeout_s: float = 60.0) -> bool:
    """Stop a job, and wait until it has ended; return false if it had ended already.

    Args:
        submission_id: The job.
        address: The cluster, as for `job_client.dashboard_url`.
        timeout_s: How long to wait.

    Raises:
        IrmasError: There is no such job, or it does not end in time.
    """
    client = connect(address)
    # Ray itself stops whatever still has a process, which a job has for a while after its end.
    if find_job(client, submission_id).status.is_terminal():
        return False
    with one_line_errors(client.get_address()):
        asked = bool(client.stop_job(submission_id))
    until = time.monotonic() + timeout_s
    while not find_job(client, submission_id).status.is_terminal():
        if time.monotonic() > until:
            raise IrmasError(
                f"job {submission_id} was asked to stop {timeout_s:g} s ago and has not ended yet: "
                f"'irmas jobs status {submission_id}' says whether it has"
            )
        time.sleep(0.5)
    return asked


def _free_name(client: Client, name: str, entrypoint: str) -> tuple[str, bool]:
    """Return the first of name, name-2, … that is running or unused, and whether it is running.

    Raises:
        IrmasError: It runs another command.
    """
    jobs = {job.submission_id: job for job in jobs_of(client)}
    candidate, count = name, 1
    while job := jobs.get(candidate):
        if not job.status.is_terminal():
            if job.entrypoint != entrypoint:
                raise IrmasError(
                    f"job {candidate} is {job.status.lower()} already, with another command: "
                    f"{job.entrypoint}; stop it, or choose another --name"
                )
            say(f"job {candidate} is {job.status.lower()} already: {job.entrypoint}")
            return candidate, True
        count += 1
        candidate = f"{name}-{count}"
    if candidate != name:
        say(f"job {name} has ended before: this one is {candidate}")
    return candidate, False

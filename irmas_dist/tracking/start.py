"""Opens runs: where they are written, what is known of them, and what they tell of the machine."""

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from irmas_dist.config.tracking import Mode, TrackingSettings
from irmas_dist.errors import without_password
from irmas_dist.terminal import say
from irmas_dist.tracking.run import FLUSH_S, LONGEST_NAME, Run, one_line
from irmas_dist.tracking.run_file import RunFile, run_files, unsent_files
from irmas_dist.tracking.server import PROGRAM, Known, known_run, resolve_mode
from irmas_dist.tracking.uploads import uploads


def start_run(
    settings: TrackingSettings,
    *,
    name: str | None,
    job_type: str,
    config: Mapping[str, Any],
    run_id: str,
    resumed: bool = False,
    group: str | None = None,
    tags: Iterable[str] = (),
) -> "Run":
    """Open a run, or resume the run of that identity.

    Args:
        settings: Where and whether to log.
        name: Display name; None keeps that of a resumed run.
        job_type: Kind of run: ``train``, ``trial``, ``evaluate``.
        config: Settings of the run, nested: W&B names them by dots itself, and finds none that
            have dots in their own names.
        run_id: Its identity.
        resumed: Whether an earlier process has logged to it, perhaps on another machine.
        group: Name shared by runs that belong together, such as the trials of a sweep.
        tags: For filtering.

    Returns:
        A run; one that logs nothing when the directory cannot be written to.
    """
    mode = resolve_mode(settings)
    if mode == "disabled":
        return Run(None)
    earlier = run_files(settings.directory, run_id)
    known = _known(settings, run_id, earlier, mode) if resumed or earlier else Known()
    command = dict(known.config.get("command", {}))
    if settings.metadata == "basic":
        command[job_type] = command_line()
    try:
        import wandb

        Path(settings.directory).mkdir(parents=True, exist_ok=True)
        with _arguments_without_passwords():
            run = wandb.init(
                project=settings.project,
                entity=settings.entity,
                dir=settings.directory,
                mode="offline",
                name=name and name[:LONGEST_NAME],
                group=group and group[:LONGEST_NAME],
                job_type=None if resumed else job_type,
                id=run_id,
                resume="allow",
                tags=list(tags),
                config={**known.config, **config, "command": command},
                reinit="create_new",
                settings=wandb.Settings(**_local_settings(settings, job_type)),
            )
        file = Path(run.settings.sync_file)
        opened = Run(run, mode, known, file)
    except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
        say(f"W&B cannot be used ({one_line(error)}); continuing without it")
        return Run(None)
    if mode == "online":
        for before in unsent_files([*earlier, file])[:-1]:
            uploads.begin(before, run_id, name or run_id, live=False)
        uploads.begin(file, run_id, name or run_id, live=True)
    return opened


@contextmanager
def _arguments_without_passwords() -> Iterator[None]:
    """Hide passwords in the arguments of this process, which full metadata have, for the block."""
    arguments = sys.argv
    sys.argv = [without_password(argument) for argument in arguments]
    try:
        yield
    finally:
        sys.argv = arguments


def _local_settings(settings: TrackingSettings, job_type: str) -> dict[str, Any]:
    """Return wandb's settings of a run that is written to disk."""
    common = {
        "console": "off",
        "init_timeout": settings.timeout_s,
        "finish_timeout": settings.timeout_s,
        "x_transaction_log_flush_interval": FLUSH_S,
        "x_save_requirements": settings.metadata == "full" and job_type == "train",
        # Of the driver, where a trial does not run.
        "x_disable_stats": job_type != "train",
    }
    if settings.metadata == "full":
        return common
    return common | {
        "x_disable_meta": True, "x_disable_machine_info": True, "disable_git": True,
        "host": "", "program": PROGRAM,
    }  # fmt: skip


def _known(settings: TrackingSettings, run_id: str, files: Sequence[Path], mode: Mode) -> Known:
    """Return what earlier processes have logged to a run, by its files, or else by the server."""
    if not files and mode == "online":
        try:
            return known_run(settings.entity, settings.project, run_id, settings.timeout_s)
        except Exception:  # noqa: BLE001 - the upload will tell the reason
            return Known()
    last_step = -1
    values: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for found in map(RunFile, files):
        last_step = max(last_step, found.last_step)
        values |= found.config
        summary |= found.summary
    return Known(last_step, values, summary)


def command_line() -> str:
    """Return the command that this process runs, without passwords."""
    name, *arguments = sys.argv
    return without_password(shlex.join([Path(name).name, *arguments]))

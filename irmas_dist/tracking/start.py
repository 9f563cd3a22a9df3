"""Opens runs: where they are written, what is known of them, and what they tell of the machine."""

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from irmas_dist import storage
from irmas_dist.config.tracking import LONGEST_NAME, TrackingSettings
from irmas_dist.errors import without_password
from irmas_dist.terminal import say
from irmas_dist.tracking.run import FLUSH_S, Run, one_line, public_config
from irmas_dist.tracking.run_file import (
    RunFile,
    is_begun_elsewhere,
    mark_begun_elsewhere,
    run_files,
    unsent_files,
)
from irmas_dist.tracking.server import PROGRAM, Known, resolve_mode
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
        name: Display name; None keeps name and kind of a resumed run.
        job_type: Kind of run: ``train``, ``trial``, ``evaluate``.
        config: The recipe, nested: W&B names settings by dots itself, and finds none that have
            dots in their own names.
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
    try:
        import wandb

        directory = storage.absolute(settings.directory)
        earlier = run_files(directory, run_id)
        parts = [RunFile(file) for file in earlier]
        known = _known(parts)
        command = dict(known.config.get("command", {}))
        if settings.metadata == "basic":
            command[job_type] = command_line()
        folder = Path(directory, "wandb")
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):  # Where it cannot write, wandb takes another directory.
            pass
        with _arguments_without_passwords():
            run = wandb.init(
                project=settings.project,
                entity=settings.entity,
                dir=directory,
                mode="offline",
                name=name and without_password(name)[:LONGEST_NAME],
                group=group,
                job_type=None if resumed and name is None else job_type,
                id=run_id,
                resume="allow",
                tags=list(tags),
                config={**known.config, **public_config(config), "command": command},
                reinit="create_new",
                settings=wandb.Settings(**_local_settings(settings, job_type)),
            )
        file, shown = Path(run.settings.sync_file), name or known.name or run_id
        begun = [part for part in parts if part.run]
        place = run.settings.entity or "", run.settings.project
        here = [part for part in begun if (part.run.entity, part.run.project) == place]
        # Another project has none of the steps that the earlier one has.
        last_step = max((part.last_step for part in here), default=-1)
        opened = Run(run, mode, replace(known, last_step=last_step), file)
        marked = any(is_begun_elsewhere(part.path) for part in begun)
        if resumed and (marked or not begun or here != begun):
            mark_begun_elsewhere(file)
        if mode == "online":
            project = f"{settings.entity or ''}/{settings.project}"
            begin = partial(uploads.begin, run_id=run_id, name=shown, project=project)
            for before in unsent_files(earlier):
                begin(before, live=False)
            # The server may have more of it; of the others, nobody needs to see how they grow.
            if job_type not in ("train", "trial") or is_begun_elsewhere(file):
                opened.at_end = lambda: begin(file, live=False)
            else:
                begin(file, live=True)
    except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
        say(f"W&B cannot be used ({one_line(error)}); continuing without it")
        return Run(None)
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


def _known(parts: Sequence[RunFile]) -> Known:
    """Return what earlier processes have logged to a run, by its files."""
    name = ""
    values: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for found in parts:
        name = name or (found.run.display_name if found.run else "")
        values |= found.config
        summary |= found.summary
    return Known(config=values, summary=summary, name=name)


def command_line() -> str:
    """Return the command that this process runs, without passwords."""
    name, *arguments = sys.argv
    return without_password(shlex.join([Path(name).name, *arguments]))

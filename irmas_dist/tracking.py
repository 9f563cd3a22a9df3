"""Logging to Weights & Biases: one thin logger, and one that does nothing.

Runs are made in the driver, never in workers, so that one process holds the key and the
connection. Without a key they are written to disk; ``wandb sync`` uploads them later. The work
that is logged never waits or fails for the logging's sake.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import wraps
from pathlib import Path
from threading import Thread
from typing import Any, Concatenate, Literal, ParamSpec, Protocol

import wandb
from rich.markup import escape

from irmas_dist.config.tracking import Mode, TrackingSettings
from irmas_dist.terminal import say

BEST = {
    "val_macro_f1": "max",
    "val_micro_f1": "max",
    "val_lrap": "max",
    "val_map": "max",
    "val_loss": "min",
}
"""Which value of a metric stands in a run's summary: its best."""

P = ParamSpec("P")


class Run(Protocol):
    """One run: a training, or one trial of a search."""

    path: str | None
    """Where the run's files are; None when nothing is logged."""
    mode: Mode
    """How it is logged, which need not be what was asked for."""

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log one epoch's metrics; ``epoch`` among them is the step."""

    def configure(self, values: Mapping[str, Any]) -> None:
        """Change values of the run's configuration."""

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""

    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """Log a table."""

    def page(self, name: str, html: str) -> None:
        """Log a piece of HTML."""

    def uses(self, name: str, kind: str, metadata: Mapping[str, Any]) -> None:
        """Log what the run worked with: an artifact that holds fingerprints only."""

    def made(self, name: str, kind: str, directory: str, metadata: Mapping[str, Any]) -> None:
        """Log what the run made: an artifact with the files of a local directory."""

    def tag(self, *tags: str) -> None:
        """Add tags."""

    def close(self, *, failed: bool = False) -> None:
        """Finish the run, as failed when the work did."""


class NullRun:
    """Logs nothing."""

    path: str | None = None
    mode: Mode = "disabled"

    def log(self, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def configure(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """Do nothing."""

    def page(self, name: str, html: str) -> None:
        """Do nothing."""

    def uses(self, name: str, kind: str, metadata: Mapping[str, Any]) -> None:
        """Do nothing."""

    def made(self, name: str, kind: str, directory: str, metadata: Mapping[str, Any]) -> None:
        """Do nothing."""

    def tag(self, *tags: str) -> None:
        """Do nothing."""

    def close(self, *, failed: bool = False) -> None:
        """Do nothing."""


def resolve_mode(settings: TrackingSettings) -> Mode:
    """Return the mode that is meant: what WANDB_MODE says, else the settings, else by key."""
    if settings.mode != "auto":
        return settings.mode
    match os.environ.get("WANDB_MODE"):
        case "online" | "offline" | "disabled" as asked:
            return asked
    return "online" if wandb.login(prompt=False) else "offline"


def start_run(
    settings: TrackingSettings,
    *,
    name: str,
    job_type: str,
    config: Mapping[str, Any],
    group: str | None = None,
    run_id: str | None = None,
    tags: Iterable[str] = (),
    requirements: bool = True,
) -> Run:
    """Open a run.

    Args:
        settings: Where and whether to log.
        name: What people see.
        job_type: Kind of run: ``train``, ``trial``, ``evaluate``.
        config: Settings of the run; nested ones are flattened to dotted names.
        group: Runs that belong together, such as the trials of a sweep.
        run_id: Identity; a run that was cut short goes on under the same one.
        tags: For filtering.
        requirements: Whether to record the installed packages, which takes a third of a second.

    Returns:
        A run; where W&B does not answer, one that is written to disk, and where that cannot
        be written to, one that logs nothing.
    """
    mode = resolve_mode(settings)
    if mode == "disabled":
        return NullRun()

    def begin(mode: Literal["online", "offline"], run_id: str | None) -> WandbRun:
        Path(settings.directory).mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            dir=settings.directory,
            mode=mode,
            name=name,
            group=group,
            job_type=job_type,
            id=run_id,
            resume="allow" if run_id else None,
            tags=list(tags),
            config=flatten(config),
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                x_save_requirements=requirements,
                init_timeout=settings.timeout_s,
                finish_timeout=settings.timeout_s,
                finish_timeout_raises=False,
            ),
        )
        return WandbRun(run, settings.timeout_s)

    modes: tuple[Literal["online", "offline"], ...] = (mode, "offline")
    for instead in dict.fromkeys(modes):
        try:
            # W&B holds on to the identity of a run that it could not open.
            return begin(instead, run_id if instead == mode or not run_id else f"{run_id}-offline")
        except Exception as error:  # noqa: BLE001 - W&B's own are of many kinds, some private
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            say(f"W&B cannot be used {instead} ({escape(reason)}); going on without")
    return NullRun()


def new_run_id() -> str:
    """Return an identity for a run that may have to go on later."""
    return secrets.token_hex(4)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by dotted name, as overrides and search spaces name them."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def never_raises(
    method: Callable[Concatenate["WandbRun", P], None],
) -> Callable[Concatenate["WandbRun", P], None]:
    """Have what W&B cannot do cost the run's log, and not the work that is logged."""

    @wraps(method)
    def guarded(self: "WandbRun", *args: P.args, **kwargs: P.kwargs) -> None:
        if self.lost:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - W&B's own are of many kinds, some private
            self.lost = True
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            say(f"W&B failed ({escape(reason)}); going on without")

    return guarded


class WandbRun:
    """Logs to a W&B run of its own; several can be open at once."""

    def __init__(self, run: Any, timeout_s: float) -> None:
        self._run, self._timeout_s = run, timeout_s
        self.lost = False
        self.mode: Mode = "offline" if run.offline else "online"
        self.path: str | None = str(Path(run.dir).parent)
        run.define_metric("epoch", hidden=True)
        run.define_metric("val_*", step_metric="epoch")
        run.define_metric("train_*", step_metric="epoch")
        for metric, best in BEST.items():
            run.define_metric(metric, step_metric="epoch", summary=best)

    @never_raises
    def log(self, metrics: Mapping[str, float]) -> None:
        """Log one epoch's metrics; ``epoch`` among them is the step."""
        # A run that goes on in another process would otherwise count its steps from 0 again.
        self._run.log(dict(metrics), step=int(metrics["epoch"]))

    @never_raises
    def configure(self, values: Mapping[str, Any]) -> None:
        """Change values of the run's configuration."""
        self._run.config.update(dict(values), allow_val_change=True)

    @never_raises
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""
        self._run.summary.update(dict(values))

    @never_raises
    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """Log a table."""
        self._run.log({name: wandb.Table(columns=columns, data=list(rows))})

    @never_raises
    def page(self, name: str, html: str) -> None:
        """Log a piece of HTML."""
        self._run.log({name: wandb.Html(html, inject=False, data_is_not_path=True)})

    @never_raises
    def uses(self, name: str, kind: str, metadata: Mapping[str, Any]) -> None:
        """Log what the run worked with: an artifact that holds fingerprints only."""
        artifact = wandb.Artifact(name, kind, metadata=dict(metadata))
        with artifact.new_file("fingerprints.json") as stream:
            json.dump(dict(metadata), stream, indent=2)
        if self._run.offline:  # W&B refuses inputs there; uploaded, it stands beside the model.
            self._run.log_artifact(artifact)
        else:
            self._use(artifact)

    def _use(self, artifact: wandb.Artifact) -> None:
        """Wait for W&B to take an input, but not for ever, as it does itself."""
        used: Future[None] = Future()

        def work() -> None:
            try:
                self._run.use_artifact(artifact)
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                used.set_exception(error)
            else:
                used.set_result(None)

        Thread(target=work, daemon=True).start()
        used.result(self._timeout_s)

    @never_raises
    def made(self, name: str, kind: str, directory: str, metadata: Mapping[str, Any]) -> None:
        """Log what the run made: an artifact with the files of a local directory."""
        artifact = wandb.Artifact(name, kind, metadata=dict(metadata))
        artifact.add_dir(directory)
        self._run.log_artifact(artifact)

    @never_raises
    def tag(self, *tags: str) -> None:
        """Add tags."""
        self._run.tags = (*(self._run.tags or ()), *tags)

    def close(self, *, failed: bool = False) -> None:
        """Finish the run, as failed when the work did."""
        self.lost = False  # Whatever was, what has been logged is to be kept.
        self._finish(1 if failed else 0)

    @never_raises
    def _finish(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)

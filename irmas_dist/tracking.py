"""Logging to Weights & Biases, which never delays or ends the work that is logged.

Runs are opened in the driver, never in workers, so that one process holds the key and the
connection. Without a key they are written to disk; ``wandb sync`` uploads them later. wandb is
imported inside functions: it takes a second, which commands that log nothing save.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import wraps
from pathlib import Path
from threading import Thread
from typing import Any, Concatenate, ParamSpec

from rich.markup import escape

from irmas_dist.config.tracking import Mode, TrackingSettings
from irmas_dist.terminal import say

BEST = {"val_loss": "min"} | dict.fromkeys(
    ("val_macro_f1", "val_micro_f1", "val_lrap", "val_map"), "max"
)
"""Metrics of which a run's summary shows the best value rather than the last."""

LONGEST_NAME = 128
"""Characters that W&B takes in the name of a run, group or artifact."""

P = ParamSpec("P")


def resolve_mode(settings: TrackingSettings) -> Mode:
    """Return the mode that is set; auto takes that of WANDB_MODE, else online with a key."""
    match os.environ.get("WANDB_MODE") if settings.mode == "auto" else settings.mode:
        case "online" | "offline" | "disabled" as mode:
            return mode
    import wandb

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
) -> "Run":
    """Open a run.

    Args:
        settings: Where and whether to log.
        name: Display name.
        job_type: Kind of run: ``train``, ``trial``, ``evaluate``.
        config: Settings of the run; nested ones are flattened to dotted names.
        group: Name shared by runs that belong together, such as the trials of a sweep.
        run_id: Identity; an interrupted run is resumed under the same one.
        tags: For filtering.
        requirements: Whether to record the installed packages, which takes a third of a second.

    Returns:
        A run; an offline one when W&B cannot be reached, and one that logs nothing when the
        directory cannot be written to either.
    """
    mode = resolve_mode(settings)
    for attempted in dict.fromkeys((mode, "offline")) if mode != "disabled" else ():
        # W&B keeps hold of the identity of a run that it could not open.
        suffix = "" if attempted == mode else "-offline"
        try:
            import wandb

            Path(settings.directory).mkdir(parents=True, exist_ok=True)
            run = wandb.init(
                project=settings.project,
                entity=settings.entity,
                dir=settings.directory,
                mode=attempted,
                name=name[:LONGEST_NAME],
                group=group and group[:LONGEST_NAME],
                job_type=job_type,
                id=run_id and run_id + suffix,
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
            return Run(run, settings.timeout_s)
        except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
            say(f"W&B cannot be used {attempted} ({_reason(error)}); continuing without it")
    return Run(None)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by dotted name, as in overrides and search spaces."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def artifact_name(name: str) -> str:
    """Return ``name`` as W&B takes it: ASCII letters, digits, ``-``, ``_`` and ``.``, 128 at most.

    Names that differ only in what is replaced stay different, by a digest at their end.
    """
    allowed = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    if allowed == name and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{allowed[: LONGEST_NAME - len(digest) - 1]}-{digest}"


def _reason(error: Exception) -> str:
    return escape((str(error).strip() or type(error).__name__).splitlines()[0])


def never_raises(
    method: Callable[Concatenate["Run", P], None],
) -> Callable[Concatenate["Run", P], None]:
    """Make a method do nothing without an open W&B run, and end the logging if it fails."""

    @wraps(method)
    def guarded(self: "Run", *args: P.args, **kwargs: P.kwargs) -> None:
        if not self.logging:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
            self.logging = False
            say(f"W&B failed ({_reason(error)}); continuing without it")

    return guarded


class Run:
    """One run: a training, a trial, an evaluation. Several can be open at once.

    Args:
        run: The W&B run to log to; with None, every method does nothing.
        timeout_s: How long to wait for W&B to accept an input artifact.

    Attributes:
        mode: How it is logged, which may differ from the mode asked for.
        logging: Whether there is a W&B run that has not failed.
    """

    def __init__(self, run: Any, timeout_s: float = 0.0) -> None:
        self._run, self._timeout_s = run, timeout_s
        self.logging = run is not None
        self.mode: Mode = "disabled" if run is None else "offline" if run.offline else "online"
        if run is None:
            return
        run.define_metric("epoch", hidden=True)
        run.define_metric("val_*", step_metric="epoch")
        run.define_metric("train_*", step_metric="epoch")
        for metric, best in BEST.items():
            run.define_metric(metric, step_metric="epoch", summary=best)

    @never_raises
    def log(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one epoch; ``epoch`` among them is the step."""
        # Stated, because a run resumed in another process would count its steps from 0 again.
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
        import wandb

        self._run.log({name: wandb.Table(columns=columns, data=list(rows))})

    @never_raises
    def page(self, name: str, html: str) -> None:
        """Log a piece of HTML."""
        import wandb

        self._run.log({name: wandb.Html(html, inject=False, data_is_not_path=True)})

    @never_raises
    def uses(self, name: str, kind: str, metadata: Mapping[str, Any]) -> None:
        """Log an input of the run: an artifact that holds fingerprints only."""
        import wandb

        artifact = wandb.Artifact(artifact_name(name), kind, metadata=dict(metadata))
        with artifact.new_file("fingerprints.json") as stream:
            json.dump(dict(metadata), stream, indent=2)
        if self._run.offline:  # Inputs are refused offline; as an output it is uploaded later.
            self._run.log_artifact(artifact)
            return
        used: Future[None] = Future()

        def use() -> None:
            try:
                used.set_result(self._run.use_artifact(artifact))
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                used.set_exception(error)

        # In a thread, because W&B itself would wait for its server without end.
        Thread(target=use, daemon=True).start()
        used.result(self._timeout_s)

    @never_raises
    def made(self, name: str, kind: str, directory: str, metadata: Mapping[str, Any]) -> None:
        """Log an output of the run: an artifact with the files of a local directory."""
        import wandb

        artifact = wandb.Artifact(artifact_name(name), kind, metadata=dict(metadata))
        artifact.add_dir(directory)
        self._run.log_artifact(artifact)

    @never_raises
    def tag(self, *tags: str) -> None:
        """Add tags."""
        self._run.tags = (*(self._run.tags or ()), *tags)

    def close(self, *, failed: bool = False) -> None:
        """Finish the run, as failed when the work failed."""
        self.logging = self._run is not None  # After a failure too, to keep what was logged.
        self._finish(1 if failed else 0)

    @never_raises
    def _finish(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)

"""Runs: a training, a trial, an evaluation, as W&B shows it."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from rich.markup import escape

from irmas_dist import storage
from irmas_dist.config.tracking import Mode
from irmas_dist.terminal import say
from irmas_dist.tracking.run_file import RunFile
from irmas_dist.tracking.server import Known

BEST: dict[str, Callable[[Iterable[float]], float]] = {
    "val_loss": min, "val_macro_f1": max, "val_micro_f1": max, "val_lrap": max, "val_map": max,
}  # fmt: skip
"""Metrics of which a run's summary shows the best value rather than the last."""

LONGEST_NAME = 128
"""Characters that W&B takes in the name of a run, group or artifact."""

MODEL_FILES = ("model.json", "model.safetensors", "validation.parquet")
"""What a model artifact has of a model directory."""

FLUSH_S = 1.0
"""How often what is logged goes to disk: what a kill may cost."""

P = ParamSpec("P")


def guarded(method: Callable[Concatenate["Run", P], None]) -> Callable[Concatenate["Run", P], None]:
    """Make a method do nothing without an open W&B run, and say so if it fails."""

    @wraps(method)
    def call(self: "Run", *args: P.args, **kwargs: P.kwargs) -> None:
        if self._run is None:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
            self.say_once(f"W&B failed to {method.__name__.strip('_')} ({one_line(error)})")

    return call


class Run:
    """One run: a training, a trial, an evaluation. Several can be open at once.

    A call that fails is reported, the first of each kind, and those after it are made all the same.

    Args:
        run: The W&B run to log to; with None, every method does nothing.
        mode: Whether it is uploaded.
        known: What earlier processes have logged to it.
        file: The file that it is written to.

    Attributes:
        mode: How it is logged, which may differ from the mode asked for.
    """

    def __init__(
        self,
        run: Any,
        mode: Mode = "disabled",
        known: Known | None = None,
        file: Path | None = None,
    ) -> None:
        self._run, self._known, self._file = run, known or Known(), file
        self._last_step = self._known.last_step
        self._best = {
            metric: value
            for metric, value in self._known.summary.items()
            if metric in BEST and isinstance(value, int | float)
        }
        self.mode: Mode = "disabled" if run is None else mode
        self._said: set[str] = set()
        self._define()

    @guarded
    def _define(self) -> None:
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("val_*", step_metric="epoch")
        self._run.define_metric("train_*", step_metric="epoch")
        for metric in BEST:  # wandb would forget the best epoch of an earlier process.
            self._run.define_metric(metric, step_metric="epoch", summary="none")
        if self._known.summary:
            # What is uploaded takes the place of what an earlier process has uploaded.
            self._run.summary.update(dict(self._known.summary))

    @guarded
    def log(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one epoch; ``epoch`` among them is the step.

        Those that the run has already are left out: a resumed training has earlier epochs too.
        """
        step = int(metrics["epoch"])
        if step <= self._last_step:
            return
        self._log(step, dict(metrics))
        for metric in BEST.keys() & metrics.keys():
            values = [metrics[metric], self._best.get(metric, metrics[metric])]
            self._best[metric] = BEST[metric](values)
        self._run.summary.update(self._best)

    def _log(self, step: int, values: dict[str, Any]) -> None:
        """Log values at a step, which no value follows."""
        self._last_step = step
        # wandb keeps a step open until the next one, unless told.
        self._run.log(values, step=step, commit=True)

    @guarded
    def configure(self, values: Mapping[str, Any]) -> None:
        """Change values of the run's configuration."""
        self._run.config.update(dict(values), allow_val_change=True)

    @guarded
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""
        self._run.summary.update(dict(values))

    @guarded
    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """Log a table."""
        import wandb

        self._log(self._last_step + 1, {name: wandb.Table(columns=columns, data=list(rows))})

    @guarded
    def page(self, name: str, html: str) -> None:
        """Log a piece of HTML."""
        import wandb

        content = wandb.Html(html, inject=False, data_is_not_path=True)
        self._log(self._last_step + 1, {name: content})

    @guarded
    def uses_features(self, data: Mapping[str, str]) -> None:
        """Log the features as an input of the run: an artifact that holds fingerprints only."""
        import wandb

        name = f"features-{data['store'][:12] or 'unknown'}"
        artifact = wandb.Artifact(artifact_name(name), "dataset", metadata=dict(data))
        with artifact.new_file("fingerprints.json") as stream:
            json.dump(dict(data), stream, indent=2)
        # wandb's own `use_artifact` asks the server, and waits for it.
        self._run._log_artifact(artifact, is_user_created=True, use_after_commit=True)

    @guarded
    def made_model(self, name: str, directory: str, metadata: Mapping[str, Any]) -> None:
        """Log an output of the run, the best so far: an artifact with a model directory."""
        import wandb

        name = artifact_name(f"model-{name}")
        artifact = wandb.Artifact(name, "model", metadata=dict(metadata))
        for part in set(storage.list_files(directory)) & set(MODEL_FILES):
            with artifact.new_file(part, mode="wb") as stream:
                stream.write(storage.read_bytes(storage.join(directory, part)))
        self._run.log_artifact(artifact, aliases=["latest", "best"])

    @guarded
    def tag(self, *tags: str) -> None:
        """Add tags."""
        self._run.tags = (*(self._run.tags or ()), *tags)

    @guarded
    def close(self, *, failed: bool = False) -> None:
        """Finish the run, as failed when the work failed."""
        self._run.finish(exit_code=1 if failed else 0)
        # wandb's service writes the last of it after that.
        until = time.monotonic() + FLUSH_S
        while self._file and not RunFile(self._file).whole and time.monotonic() < until:
            time.sleep(0.005)

    def say_once(self, message: str) -> None:
        """Print a message, unless this run has printed the same."""
        if message not in self._said:
            self._said.add(message)
            say(message)


def artifact_name(name: str) -> str:
    """Return ``name`` as W&B takes it: ASCII letters, digits, ``-``, ``_`` and ``.``, 128 at most.

    Names that differ only in what is replaced stay different, by a digest at their end.
    """
    allowed = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    if allowed == name and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{allowed[: LONGEST_NAME - len(digest) - 1]}-{digest}"


def one_line(error: Exception) -> str:
    """Return the message of an error of W&B's for the terminal."""
    return escape((str(error).strip() or type(error).__name__).splitlines()[0])

"""Runs: a training, a trial, an evaluation, as W&B shows it."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from irmas_dist import storage
from irmas_dist.config.tracking import LONGEST_NAME, Mode
from irmas_dist.environment import set_variables
from irmas_dist.errors import without_password
from irmas_dist.storage.results import KNOWN_FILE, MODEL_FILE, VALIDATION_FILE, WEIGHTS_FILE
from irmas_dist.terminal import say
from irmas_dist.tracking.run_file import RunFile
from irmas_dist.tracking.server import ENDED, SERVICE, Known, reason

BEST: dict[str, Callable[[Iterable[float]], float]] = {
    "val_loss": min, "val_macro_f1": max, "val_micro_f1": max, "val_lrap": max, "val_map": max,
}  # fmt: skip
"""Metrics of which a run's summary shows the best value rather than the last."""

MODEL_FILES = (MODEL_FILE, WEIGHTS_FILE, VALIDATION_FILE, KNOWN_FILE)
"""What a model artifact has of a model directory."""

FLUSH_S = 1.0
"""How often what is logged goes to disk: what a kill may cost."""

P = ParamSpec("P")
Method = Callable[Concatenate["Run", P], None]


def guarded(what: str) -> Callable[[Method[P]], Method[P]]:
    """Make a method do nothing without an open W&B run, and say so if it fails.

    Args:
        what: What the method does, such as ``log an epoch``.
    """

    def decorate(method: Method[P]) -> Method[P]:
        @wraps(method)
        def call(self: "Run", *args: P.args, **kwargs: P.kwargs) -> None:
            if self._run is None:
                return
            try:
                method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - W&B raises many types, some of them private
                self.say_once(f"W&B failed to {what} ({one_line(error)})")

        return call

    return decorate


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
        at_end: What is done once it is finished.
        whole: Whether it is finished, and its file has all of it.
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
        self.at_end: Callable[[], object] = lambda: None
        self.whole = False
        self._said: set[str] = set()
        if run is not None:
            from wandb.sdk import wandb_setup

            self._setup = wandb_setup.singleton()
        self._define()

    @guarded("describe the metrics")
    def _define(self) -> None:
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("val_*", step_metric="epoch")
        self._run.define_metric("train_*", step_metric="epoch")
        for metric in BEST:  # wandb would forget the best epoch of an earlier process.
            self._run.define_metric(metric, step_metric="epoch", summary="none")
        if self._known.summary:
            # What is uploaded takes the place of what an earlier process has uploaded.
            self._run.summary.update(dict(self._known.summary))

    @guarded("log an epoch")
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
            if finite := [value for value in values if math.isfinite(value)]:
                self._best[metric] = BEST[metric](finite)
        self._run.summary.update(self._best)

    def _log(self, step: int, values: dict[str, Any]) -> None:
        """Log values at a step, which no value follows."""
        self._last_step = step
        # wandb keeps a step open until the next one, unless told.
        self._run.log(values, step=step, commit=True)

    @guarded("change the configuration")
    def configure(self, config: Mapping[str, Any]) -> None:
        """Change the run's configuration, which is given as in `start_run`."""
        self._run.config.update(public_config(config), allow_val_change=True)

    @guarded("set the summary")
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""
        self._run.summary.update(without_passwords(dict(values)))

    @guarded("log a table")
    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """Log a table."""
        import wandb

        content = wandb.Table(columns=columns, data=without_passwords(list(rows)))
        with self._staging():
            self._log(self._last_step + 1, {name: content})

    @guarded("log a page")
    def page(self, name: str, make: Callable[[], str]) -> None:
        """Log a piece of HTML, which is made here, so that an error of that ends nothing else."""
        import wandb

        content = wandb.Html(without_password(make()), inject=False, data_is_not_path=True)
        self._log(self._last_step + 1, {name: content})

    @guarded("log the features")
    def uses_features(self, data: Mapping[str, Any]) -> None:
        """Log the features as an input of the run: an artifact that holds fingerprints only."""
        name = f"features-{data['store'][:12] or 'unknown'}"
        files = {"fingerprints.json": json.dumps(dict(data), indent=2).encode()}
        artifact = self._artifact(name, "dataset", files, data)
        # wandb's own `use_artifact` asks the server, and waits for it.
        self._run._log_artifact(artifact, is_user_created=True, use_after_commit=True)

    @guarded("log the model")
    def made_model(self, name: str, directory: str, metadata: Mapping[str, Any]) -> None:
        """Log an output of the run, the best so far: an artifact with a model directory."""
        files = {
            part: storage.read_bytes(storage.join(directory, part))
            for part in storage.list_files(directory)
            if part in MODEL_FILES
        }
        artifact = self._artifact(f"model-{name}", "model", files, metadata)
        self._run.log_artifact(artifact, aliases=["latest", "best"])

    def _artifact(
        self, name: str, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]
    ) -> Any:
        """Return an artifact that holds some files."""
        import wandb

        artifact = wandb.Artifact(artifact_name(name), kind, metadata=dict(metadata))
        with self._staging():
            for part, content in files.items():
                with artifact.new_file(part, mode="wb") as stream:
                    stream.write(content)
        return artifact

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Let wandb keep what it uploads later beside the run's file, for the block.

        Else that is in the home directory, which a machine that uploads it later need not have.
        """
        assert self._file is not None
        with set_variables({"WANDB_DATA_DIR": str(self._file.parent)}):
            yield

    @guarded("add tags")
    def tag(self, *tags: str) -> None:
        """Add tags."""
        self._run.tags = (*(self._run.tags or ()), *tags)

    @guarded("finish the run")
    def close(self, *, failed: bool = False) -> None:
        """Finish the run, as failed when the work failed."""
        try:
            self._run.finish(exit_code=1 if failed else 0)
            # wandb's service writes the last of it after that.
            until = time.monotonic() + FLUSH_S
            while self._file:
                self.whole = RunFile(self._file).whole
                if self.whole or time.monotonic() > until:
                    break
                time.sleep(0.05)
        except Exception as error:
            if one_line(error) == ENDED:
                self._forget_service()
            raise
        finally:
            self.at_end()

    def _forget_service(self) -> None:
        """Let wandb forget the service of this run, which has ended.

        What stops a job ends it with the other processes. wandb would print a traceback at exit,
        and open no other run.
        """
        import wandb
        from wandb.sdk import wandb_setup

        if wandb_setup.singleton() is self._setup:  # Not a later one's.
            # It may end this process with the exit code of its service.
            with suppress(Exception, SystemExit):
                wandb.teardown()

    def say_once(self, message: str) -> None:
        """Print a message, unless this run has printed the same."""
        if message not in self._said:
            self._said.add(message)
            say(message)


def public_config(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe that W&B is told: not those of the logging itself.

    These name directories of this machine, and the project and group, which the run has anyway.
    """
    return dict(without_passwords({key: recipe[key] for key in recipe if key != "tracking"}))


def without_passwords(values: Any) -> Any:
    """Return a value, which may be nested, with ``***`` for the passwords of the URLs in it."""
    if isinstance(values, str):
        return without_password(values)
    if isinstance(values, Mapping):
        return {name: without_passwords(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_passwords(value) for value in values]
    return values


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
    """Return why W&B failed on this machine, for the terminal."""
    return reason(str(error).strip() or type(error).__name__, SERVICE)

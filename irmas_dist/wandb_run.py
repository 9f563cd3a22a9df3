"""A run of Weights & Biases, behind the few methods of `tracking.Run`."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import wraps
from pathlib import Path
from threading import Thread
from typing import Any, Concatenate, ParamSpec

import wandb
from rich.markup import escape

from irmas_dist.terminal import say
from irmas_dist.tracking import Mode

BEST = {
    "val_macro_f1": "max",
    "val_micro_f1": "max",
    "val_lrap": "max",
    "val_map": "max",
    "val_loss": "min",
}
"""Which value of a metric stands in a run's summary: its best."""


P = ParamSpec("P")


def harmless(
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

    @harmless
    def log(self, metrics: Mapping[str, float]) -> None:
        """Log one epoch's metrics; ``epoch`` among them is the step."""
        # A run that goes on in another process would otherwise count its steps from 0 again.
        self._run.log(dict(metrics), step=int(metrics["epoch"]))

    @harmless
    def configure(self, values: Mapping[str, Any]) -> None:
        """Change values of the run's configuration."""
        self._run.config.update(dict(values), allow_val_change=True)

    @harmless
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""
        self._run.summary.update(dict(values))

    @harmless
    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """Log a table."""
        self._run.log({name: wandb.Table(columns=columns, data=list(rows))})

    @harmless
    def page(self, name: str, html: str) -> None:
        """Log a piece of HTML."""
        self._run.log({name: wandb.Html(html, inject=False, data_is_not_path=True)})

    @harmless
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

    @harmless
    def made(self, name: str, kind: str, directory: str, metadata: Mapping[str, Any]) -> None:
        """Log what the run made: an artifact with the files of a local directory."""
        artifact = wandb.Artifact(name, kind, metadata=dict(metadata))
        artifact.add_dir(directory)
        self._run.log_artifact(artifact)

    @harmless
    def tag(self, *tags: str) -> None:
        """Add tags."""
        self._run.tags = (*(self._run.tags or ()), *tags)

    def close(self, *, failed: bool = False) -> None:
        """Finish the run, as failed when the work did."""
        self.lost = False  # Whatever was, what has been logged is to be kept.
        self._finish(1 if failed else 0)

    @harmless
    def _finish(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)

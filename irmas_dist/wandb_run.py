"""A run of Weights & Biases, behind the few methods of `tracking.Run`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import wandb

BEST = {
    "val_macro_f1": "max",
    "val_micro_f1": "max",
    "val_lrap": "max",
    "val_map": "max",
    "val_loss": "min",
}
"""Which value of a metric stands in a run's summary: its best."""


class WandbRun:
    """Logs to a W&B run of its own; several can be open at once."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self.path: str | None = str(Path(run.dir).parent)
        run.define_metric("epoch", hidden=True)
        run.define_metric("val_*", step_metric="epoch")
        run.define_metric("train_*", step_metric="epoch")
        for metric, best in BEST.items():
            run.define_metric(metric, step_metric="epoch", summary=best)

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log one epoch's metrics; ``epoch`` among them is the step."""
        # A run that goes on in another process would otherwise count its steps from 0 again.
        self._run.log(dict(metrics), step=int(metrics["epoch"]))

    def configure(self, values: Mapping[str, Any]) -> None:
        """Change values of the run's configuration."""
        self._run.config.update(dict(values), allow_val_change=True)

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""
        self._run.summary.update(dict(values))

    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """Log a table."""
        self._run.log({name: wandb.Table(columns=columns, data=list(rows))})

    def page(self, name: str, html: str) -> None:
        """Log a piece of HTML."""
        self._run.log({name: wandb.Html(html, inject=False, data_is_not_path=True)})

    def uses(self, name: str, kind: str, metadata: Mapping[str, Any]) -> None:
        """Log what the run worked with: an artifact that holds fingerprints only."""
        artifact = wandb.Artifact(name, kind, metadata=dict(metadata))
        with artifact.new_file("fingerprints.json") as stream:
            json.dump(dict(metadata), stream, indent=2)
        if self._run.offline:  # W&B refuses inputs there; uploaded, it stands beside the model.
            self._run.log_artifact(artifact)
        else:
            self._run.use_artifact(artifact)

    def made(self, name: str, kind: str, directory: str, metadata: Mapping[str, Any]) -> None:
        """Log what the run made: an artifact with the files of a local directory."""
        artifact = wandb.Artifact(name, kind, metadata=dict(metadata))
        artifact.add_dir(directory)
        self._run.log_artifact(artifact)

    def tag(self, *tags: str) -> None:
        """Add tags."""
        self._run.tags = (*(self._run.tags or ()), *tags)

    def close(self, *, failed: bool = False) -> None:
        """Finish the run, as failed when the work did."""
        self._run.finish(exit_code=1 if failed else 0)

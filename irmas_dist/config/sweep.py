"""Settings of a sweep, and the names of its samplers, schedulers and second objectives."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from irmas_dist.config.base import Settings, require_whole_gpus

SamplerName = Literal["tpe", "random", "grid", "cmaes", "nsga2"]
"""Proposes the values of each trial, see `search.samplers`."""

SchedulerName = Literal["asha", "hyperband", "median", "pbt", "none"]
"""Stops poor trials early, see `search.schedulers`."""

PAUSING: tuple[SchedulerName, ...] = ("hyperband", "pbt")
"""Schedulers that pause trials to let others run."""

SecondObjective = Literal["parameters", "latency"]
"""Minimised while macro F1 is maximised."""


class SweepSettings(Settings):
    """Settings of a sweep."""

    trials: int = Field(20, ge=1, le=100_000)
    """Number of trials."""
    concurrent: int | None = Field(None, ge=1, le=100_000)
    """Trials at a time; default: as many as fit on the cluster."""
    workers: int = Field(1, ge=1, le=100_000)
    """Data-parallel workers of each trial; more than one take half a minute to start."""
    cpus: float = Field(1.0, gt=0.0, le=10_000)
    """CPUs of each worker."""
    gpus: Annotated[float | None, AfterValidator(require_whole_gpus)] = Field(
        None, ge=0.0, le=10_000
    )
    """GPUs of each worker; with a fraction, several trials share one GPU; default: trials share
    those of the cluster, if it has any."""
    sampler: SamplerName = "tpe"
    """Proposes the values of each trial."""
    scheduler: SchedulerName = "asha"
    """Stops poor trials early; only ``none`` goes with a second objective."""
    against: SecondObjective | None = None
    """A second objective, minimised while macro F1 is maximised."""
    grace_epochs: int = Field(3, ge=1, le=100_000)
    """Epochs of every trial before ``asha`` and ``median`` compare it with others; with ``pbt``,
    between its changes."""
    reduction: float = Field(3.0, gt=1.0, le=10_000)
    """Reduction factor: ``asha`` and ``hyperband`` keep one trial in this many."""
    study: str | None = None
    """Storage of the Optuna study: a path (SQLite; a journal if it ends in .log) or a database
    URL; default: ``study.db`` in the sweep directory."""
    storage: str | None = None
    """Where trials save checkpoints, a path or URL that every node can reach; default: the sweep
    directory."""
    warm_start: str | None = None
    """Storage of an earlier study, whose best trials run first; one of several studies in it is
    STORAGE#NAME."""

    @model_validator(mode="before")
    @classmethod
    def _compare_by_one_objective(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("against"):
            return {"scheduler": "none"} | given
        return given

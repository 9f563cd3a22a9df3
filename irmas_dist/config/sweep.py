"""Settings of a sweep."""

from typing import Any, Literal

from pydantic import Field, model_validator

from irmas_dist.config.base import Settings

SchedulerName = Literal["asha", "hyperband", "median", "pbt", "none"]


SamplerName = Literal["tpe", "random", "grid", "cmaes", "nsga2"]


class SweepSettings(Settings):
    """Settings of a sweep."""

    trials: int = Field(20, ge=1)
    """Number of trials."""
    concurrent: int | None = Field(None, ge=1)
    """Trials at a time; none means as many as the cluster has room for."""
    workers: int = Field(1, ge=1)
    """Data-parallel workers of each trial; more than one cost half a minute per trial."""
    cpus: float = Field(1.0, gt=0.0)
    """CPUs of each worker."""
    gpus: float = Field(0.0, ge=0.0)
    """GPUs of each worker; a fraction lets several trials share one."""
    sampler: SamplerName = "tpe"
    """Who proposes the trials."""
    scheduler: SchedulerName = "asha"
    """Who stops the poor ones."""
    against: Literal["parameters", "latency"] | None = None
    """A second objective, to be small while macro F1 is large; no scheduler compares by two."""
    grace_epochs: int = Field(3, ge=1)
    """Epochs that every trial may run before it is compared with others."""
    reduction: float = Field(3.0, gt=1.0)
    """Of the trials that reach a rung, the scheduler lets one in this many go on."""
    study: str | None = None
    """Storage of the Optuna study: a path (SQLite; a journal when it ends in .log) or a
    database URL; none means ``study.db`` in the sweep's directory."""
    storage: str | None = None
    """Where trials keep their progress, a path or URL that every node can reach; none means
    the sweep's directory."""
    warm_start: str | None = None
    """Storage of an earlier study, whose best trials are tried first."""

    @model_validator(mode="before")
    @classmethod
    def _compare_by_one_objective(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("against"):
            return {"scheduler": "none"} | given
        return given

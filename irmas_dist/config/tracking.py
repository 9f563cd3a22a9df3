"""Settings of the logging to Weights & Biases."""

from typing import Literal

from pydantic import Field, field_validator

from irmas_dist.config.base import Settings

Mode = Literal["online", "offline", "disabled"]
"""How a run is logged."""


LONGEST_NAME = 128
"""Characters that W&B takes in the name of a run, group, project or artifact."""


class TrackingSettings(Settings):
    """Settings of the logging to Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto is that of WANDB_MODE or of ``wandb offline`` and ``wandb disabled``; else online with a
    key (WANDB_API_KEY or ``wandb login``), and offline without."""
    group: str | None = Field(None, max_length=LONGEST_NAME)
    """Group of the runs; a sweep's runs, and those of its best recipe, are in the sweep's."""
    project: str = Field("irmas-dist", min_length=1, max_length=LONGEST_NAME)
    """W&B project; its name has none of ``/ \\ # ? % :``."""
    entity: str | None = None
    """W&B user or team; None takes that of the key."""
    directory: str = "runs"
    """Local directory; runs are written to ``wandb`` below it, and uploaded from there."""
    metadata: Literal["basic", "full"] = "basic"
    """What runs tell of the machine: basic is the command line without passwords; full adds what
    W&B collects: host, user, git remote and changes, hardware, and installed packages."""
    timeout_s: float = Field(30.0, gt=0.0)
    """How long to wait for wandb on this machine, at the start and at the end of a run."""
    wait_s: float = Field(60.0, ge=0.0)
    """How long a command waits at its end for uploads; what is left stays on disk."""

    @field_validator("directory")
    @classmethod
    def _is_local(cls, directory: str) -> str:
        if "://" in directory:
            raise ValueError("should be a local directory: wandb writes no others")
        return directory

    @field_validator("project")
    @classmethod
    def _is_a_name(cls, project: str) -> str:
        if set(project) & set("/\\#?%:"):
            raise ValueError(
                "should have none of / \\ # ? % :, which W&B takes in no project's name"
            )
        return project

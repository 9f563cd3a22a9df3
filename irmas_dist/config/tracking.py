"""Settings of the logging to Weights & Biases."""

from typing import Literal

from pydantic import Field

from irmas_dist.config.base import Settings

Mode = Literal["online", "offline", "disabled"]
"""How a run is logged."""


class TrackingSettings(Settings):
    """Settings of the logging to Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto is online with a key (WANDB_API_KEY or ``wandb login``), else offline."""
    project: str = "irmas-dist"
    """W&B project."""
    entity: str | None = None
    """W&B user or team; None takes that of the key."""
    directory: str = "runs"
    """Local directory; runs are written to ``wandb`` below it."""
    timeout_s: float = Field(30.0, gt=0.0)
    """How long to wait for a response of W&B, at the start and at the end of a run."""

"""Per-band standardisation of log-mel windows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """Log-mel windows to zero mean and unit variance per band.

    Args:
        mean: Per-band mean, natural logarithm of mel power.
        std: Per-band standard deviation.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("scale", 1 / torch.tensor(std))

    def forward(self, windows: Tensor) -> Tensor:
        """Return standardised windows, shape (windows, bands, frames), for the network.

        Args:
            windows: Log-mel windows, shape (windows, frames, bands).
        """
        return ((windows - self.mean) * self.scale).transpose(1, 2)

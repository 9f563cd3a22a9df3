"""One configurable family of convolutional networks over log-mel windows.

Blocks of 3×3 convolutions with max-pooling, widths doubling from block to block, then a head.
With ``head: flatten`` this is the plain network of the textbooks; with ``head: max``,
``convolutions: 2``, ``padding: 2`` and ``pool: 3`` it is that of Han et al. (2016).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from irmas_dist.errors import IrmasError
from irmas_dist.settings import Settings


class DropoutSettings(Settings):
    """Share of activations that are dropped in training, by place."""

    blocks: float = Field(0.25, ge=0.0, lt=1.0)
    """After each pooled block of convolutions."""
    dense: float = Field(0.5, ge=0.0, lt=1.0)
    """Before the output layer."""


class ModelSettings(Settings):
    """Architecture of the network."""

    blocks: int = Field(4, ge=1, le=8)
    """Blocks of convolutions; each halves or thirds the map by pooling."""
    width: int = Field(32, ge=1, le=1_024)
    """Channels of the first block; each further block has twice as many."""
    convolutions: int = Field(2, ge=1, le=4)
    """Convolutions in a block."""
    kernel: int = Field(3, ge=1, le=9)
    """Side of the square convolution kernels."""
    padding: int | None = Field(None, ge=0, le=8)
    """Zeros around a map on each side; none keeps its size."""
    normalisation: Literal["none", "batch"] = "none"
    """Normalisation after each convolution."""
    activation: Literal["relu", "leaky_relu"] = "leaky_relu"
    """Non-linearity; the leaky one has slope 0.33, as in Han et al."""
    pool: int = Field(3, ge=2, le=4)
    """Side of the max-pooling between blocks."""
    head: Literal["flatten", "max", "average"] = "max"
    """How the last maps become one vector: flattened, or pooled over all of each map."""
    dense: int = Field(1_024, ge=0, le=8_192)
    """Units of the dense layer before the output; 0 leaves it out."""
    dropout: DropoutSettings = DropoutSettings()


class CNN(nn.Module):
    """The network: standardised log-mel windows to logits.

    Args:
        settings: Architecture.
        bands: Mel bands of a window.
        frames: Frames of a window.
        instruments: Number of outputs.

    Raises:
        IrmasError: Pooling leaves nothing of a map of this size.
    """

    def __init__(self, settings: ModelSettings, bands: int, frames: int, instruments: int) -> None:
        super().__init__()
        self.settings = settings
        layers: list[nn.Module] = []
        channels, height, width = 1, bands, frames
        padding = settings.kernel // 2 if settings.padding is None else settings.padding
        grows = 2 * padding - settings.kernel + 1
        for block in range(settings.blocks):
            wider = settings.width * 2**block
            for _ in range(settings.convolutions):
                layers.append(nn.Conv2d(channels, wider, settings.kernel, padding=padding))
                if settings.normalisation == "batch":
                    layers.append(nn.BatchNorm2d(wider))
                layers.append(_activation(settings))
                channels, height, width = wider, height + grows, width + grows
            # A head that pools over the whole map takes the place of the last pooling.
            if block < settings.blocks - 1 or settings.head == "flatten":
                layers += [nn.MaxPool2d(settings.pool), nn.Dropout(settings.dropout.blocks)]
                height, width = height // settings.pool, width // settings.pool
            if height < 1 or width < 1:
                raise IrmasError(
                    f"model.blocks={settings.blocks} with model.pool={settings.pool} leaves "
                    f"nothing of a window of {bands} bands by {frames} frames; "
                    "use fewer blocks, a smaller pool or a longer window"
                )
        if settings.head == "max":
            layers.append(nn.AdaptiveMaxPool2d(1))
        elif settings.head == "average":
            layers.append(nn.AdaptiveAvgPool2d(1))
        layers.append(nn.Flatten())
        features = channels * (height * width if settings.head == "flatten" else 1)
        if settings.dense:
            layers += [nn.Linear(features, settings.dense), _activation(settings)]
            features = settings.dense
        layers += [nn.Dropout(settings.dropout.dense), nn.Linear(features, instruments)]
        self.layers = nn.Sequential(*layers)

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits, shape (windows, instruments).

        Args:
            windows: Standardised log-mel windows, shape (windows, bands, frames).
        """
        logits: Tensor = self.layers(windows.unsqueeze(1))
        return logits


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _activation(settings: ModelSettings) -> nn.Module:
    if settings.activation == "relu":
        return nn.ReLU(inplace=True)
    return nn.LeakyReLU(0.33, inplace=True)


def initialise(model: nn.Module, seed: int) -> None:
    """Draw the weights anew: Glorot uniform, zero biases, as Keras and Han et al. do.

    Args:
        model: Network whose convolutions and dense layers are drawn.
        seed: Of the draw; global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

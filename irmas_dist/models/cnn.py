"""One configurable family of convolutional networks over log-mel windows.

Blocks of convolutions with pooling, then a head. Depending on its settings it is a plain network
(``configs/seed.yaml``), that of Han et al. (``configs/han2016.yaml``), a VGG, a residual network
or one with squeeze-and-excitation, with a flattened, a pooled or an attention head.
"""

import itertools

import torch
from torch import Tensor, nn

from irmas_dist.config.model import ModelSettings
from irmas_dist.models.blocks import block
from irmas_dist.models.heads import head
from irmas_dist.models.map_sizes import ends_with_pooling, map_sizes


class CNN(nn.Module):
    """The network: standardised log-mel windows to logits.

    Args:
        settings: Architecture.
        bands: Mel bands of a window.
        frames: Frames of a window.
        instruments: Number of outputs.

    Attributes:
        settings: Architecture.
        layers: All layers, one after the other.
        ends: Number of layers up to the end of each block, with its pooling; the head follows.

    Raises:
        IrmasError: As for `map_sizes`.
    """

    def __init__(self, settings: ModelSettings, bands: int, frames: int, instruments: int) -> None:
        super().__init__()
        self.settings = settings
        sizes = map_sizes(settings, bands, frames)
        pool = nn.MaxPool2d if settings.pooling == "max" else nn.AvgPool2d
        layers: list[nn.Module] = []
        self.ends: list[int] = []
        inputs = 1
        for index, outputs in enumerate(settings.widths):
            layers += block(settings, inputs, outputs, final=index == settings.blocks - 1)
            if ends_with_pooling(settings, index):
                layers.append(pool(settings.pool))
                layers.append(nn.Dropout(settings.dropout.blocks))
                if settings.dropout.maps:
                    layers.append(nn.Dropout2d(settings.dropout.maps))
            self.ends.append(len(layers))
            inputs = outputs
        height, width = sizes[-1]
        self.layers = nn.Sequential(*layers, *head(settings, inputs, height * width, instruments))

    def parts(self) -> list[nn.Sequential]:
        """Return the layers of each block, and at last those of the head."""
        bounds = itertools.pairwise([0, *self.ends, len(self.layers)])
        return [nn.Sequential(*list(self.layers)[first:last]) for first, last in bounds]

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


def initialise(model: nn.Module, seed: int) -> None:
    """Draw weights Glorot uniform, with zero biases, as Keras and Han et al. do.

    The global random state is not changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

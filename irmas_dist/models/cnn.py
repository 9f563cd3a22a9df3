"""One configurable family of convolutional networks over log-mel windows.

Blocks of convolutions with pooling, then a head. Depending on its settings it is a plain network
(``configs/seed.yaml``), that of Han et al. (``configs/han2016.yaml``), a VGG, a residual network
or one with squeeze-and-excitation, with a flattened, a pooled or an attention head.
"""

import itertools

import torch
from torch import Tensor, nn

from irmas_dist.config.model import ModelSettings
from irmas_dist.errors import IrmasError
from irmas_dist.models.blocks import block
from irmas_dist.models.heads import head

Size = tuple[int, int]
"""Bands and frames."""


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
        IrmasError: Kernels or pooling shrink a map to nothing, or to a single value that
            normalisation would make zero.
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
            layers += block(settings, inputs, outputs)
            if _pools(settings, index):
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


def map_sizes(settings: ModelSettings, bands: int, frames: int) -> list[Size]:
    """Return bands and frames of the maps after each block and its pooling.

    Raises:
        IrmasError: As for `CNN`.
    """
    sizes: list[Size] = []
    height, width = bands, frames
    for index in range(settings.blocks):
        for _ in range(settings.convolutions):
            if settings.padding is not None:
                height += 2 * settings.padding - settings.kernel[0] + 1
                width += 2 * settings.padding - settings.kernel[1] + 1
            _check(settings, (bands, frames), index, (height, width))
        if _pools(settings, index):
            height, width = height // settings.pool[0], width // settings.pool[1]
            _check(settings, (bands, frames), index, (height, width), pooled=True)
        sizes.append((height, width))
    return sizes


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


def _pools(settings: ModelSettings, index: int) -> bool:
    """Return whether a block ends with pooling: a pooling head replaces that of the last one."""
    return index < settings.blocks - 1 or settings.head == "flatten"


def _check(
    settings: ModelSettings, window: Size, index: int, size: Size, *, pooled: bool = False
) -> None:
    """Refuse empty maps, and maps that normalisation would make all zero."""
    if min(size) < 1:
        left = "nothing"
    elif not pooled and settings.normalisation != "none" and size == (1, 1):
        left = f"a single value for model.normalisation={settings.normalisation}"
    else:
        return
    kernel, pool = (
        str(sides[0]) if sides[0] == sides[1] else str(list(sides))
        for sides in (settings.kernel, settings.pool)
    )
    shrinks = f"model.kernel={kernel} and model.padding={settings.padding}, "
    raise IrmasError(
        f"model.blocks={settings.blocks} with {shrinks if settings.padding is not None else ''}"
        f"model.pool={pool} leaves {left} in block {index + 1} of a window of {window[0]} bands "
        f"by {window[1]} frames; use fewer blocks, a smaller pool or a longer window"
    )

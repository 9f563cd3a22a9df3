"""Blocks of convolutions: plain or residual, with or without squeeze-and-excitation."""

import math

from torch import Tensor, nn

from irmas_dist.config.model import ModelSettings
from irmas_dist.models.norms import InstanceBatchNorm, InstanceNorm


def block(
    settings: ModelSettings, inputs: int, outputs: int, *, final: bool = False
) -> list[nn.Module]:
    """Return the layers of one block, from ``inputs`` to ``outputs`` channels, without pooling.

    Args:
        settings: Architecture.
        inputs: Channels of its input.
        outputs: Channels of its output.
        final: Whether no block follows.
    """
    layers: list[nn.Module] = []
    for index in range(settings.convolutions):
        layers += _convolution(settings, outputs if index else inputs, outputs, settings.kernel)
        if settings.normalisation == "ibn" and index == 0 and not final and outputs > 1:
            layers[-1] = InstanceBatchNorm(outputs)
        layers.append(activation(settings))
    excite = [SqueezeExcite(outputs)] if settings.squeeze_excite else []
    if not settings.residual:
        return [*layers, *excite]
    last = layers.pop()
    # If the number of channels changes, a 1 x 1 convolution replaces the identity.
    shortcut = [] if inputs == outputs else _convolution(settings, inputs, outputs, (1, 1))
    return [Residual(nn.Sequential(*layers, *excite), nn.Sequential(*shortcut)), last]


def activation(settings: ModelSettings) -> nn.Module:
    """Return the non-linearity."""
    match settings.activation:
        case "relu":
            return nn.ReLU(inplace=True)
        case "leaky_relu":
            return nn.LeakyReLU(0.33, inplace=True)
        case "elu":
            return nn.ELU(inplace=True)
        case "gelu":
            return nn.GELU()
        case "silu":
            return nn.SiLU(inplace=True)


def _convolution(
    settings: ModelSettings, inputs: int, outputs: int, kernel: tuple[int, int]
) -> list[nn.Module]:
    same_size = (kernel[0] // 2, kernel[1] // 2)
    padding = same_size if settings.padding is None else settings.padding
    # Normalisation that subtracts a channel's mean leaves nothing of a bias before it.
    bias = settings.normalisation in ("none", "group")
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=bias)
    match settings.normalisation:
        case "none":
            return [convolution]
        case "batch" | "ibn":
            return [convolution, nn.BatchNorm2d(outputs)]
        case "group":
            return [convolution, nn.GroupNorm(math.gcd(8, outputs), outputs)]
        case "instance":
            return [convolution, InstanceNorm(outputs, affine=True)]


class Residual(nn.Module):
    """The sum of a branch and a shortcut around it (He et al. 2016, figure 2).

    Args:
        branch: Layers whose output is added to the input.
        shortcut: Maps the input to the branch's channels; empty, it is the identity.
    """

    def __init__(self, branch: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same size, shape (windows, channels, bands, frames)."""
        total: Tensor = self.branch(maps) + self.shortcut(maps)
        return total


class SqueezeExcite(nn.Module):
    """Channels weighted by the means of all channels (Hu et al. 2018, equations 2 to 4).

    Args:
        channels: Channels of the maps; the bottleneck has a sixteenth of them, at least 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        bottleneck = max(channels // 16, 4)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, bottleneck, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(bottleneck, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape (windows, channels, bands, frames)."""
        weighed: Tensor = maps * self.weigh(maps)
        return weighed

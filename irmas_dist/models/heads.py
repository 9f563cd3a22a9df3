"""Heads: from the last maps to one logit per instrument."""

import torch
from torch import Tensor, nn

from irmas_dist.config.model import ModelSettings
from irmas_dist.models.blocks import activation


def head(settings: ModelSettings, channels: int, values: int, instruments: int) -> list[nn.Module]:
    """Return the layers after the last block, whose maps have ``values`` values per channel."""
    layers = [*_pooling(settings, channels), nn.Flatten()]
    features = channels * values if settings.head == "flatten" else channels
    if settings.dense:
        if settings.dropout.head:
            layers.append(nn.Dropout(settings.dropout.head))
        layers += [nn.Linear(features, settings.dense), activation(settings)]
        features = settings.dense
    return [*layers, nn.Dropout(settings.dropout.dense), nn.Linear(features, instruments)]


def _pooling(settings: ModelSettings, channels: int) -> list[nn.Module]:
    match settings.head:
        case "flatten":
            return []
        case "max":
            return [nn.AdaptiveMaxPool2d(1)]
        case "average":
            return [nn.AdaptiveAvgPool2d(1)]
        case "attention":
            return [AttentionPool(channels)]


class AttentionPool(nn.Module):
    """Attention over time, with weights of its own for every channel.

    The feature-level attention of Kong et al., "Weakly labelled AudioSet tagging with attention
    neural networks" (IEEE/ACM TASLP 27, 2019, section III-E): each channel is a mean over time
    with weights computed from the maps, so that frames in which an instrument plays can count
    more than those in which it is silent.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attend = nn.Linear(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Return one value per channel, shape (windows, channels).

        Args:
            maps: Shape (windows, channels, bands, frames).
        """
        frames = maps.mean(dim=2).transpose(1, 2)
        weights = torch.softmax(self.attend(frames), dim=1)
        return (weights * frames).sum(dim=1)

"""Blocks: the residual sum, squeeze-and-excitation, and the size of maps."""

import pytest
import torch
from torch import nn

from irmas_dist.config.model import ModelSettings
from irmas_dist.models.blocks import SqueezeExcite, block


def test_a_residual_block_of_zero_weights_is_the_identity() -> None:
    first, last = block(ModelSettings(residual=True), inputs=3, outputs=3)
    for parameter in first.parameters():
        nn.init.zeros_(parameter)
    maps = torch.randn(2, 3, 8, 8)
    assert torch.equal(first(maps), maps)
    assert isinstance(last, nn.ReLU)


def test_squeeze_and_excitation_of_zero_weights_halves_all_channels() -> None:
    excite = SqueezeExcite(3)
    for parameter in excite.parameters():
        nn.init.zeros_(parameter)
    maps = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(excite(maps), maps / 2)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 7)])
def test_without_padding_given_a_block_keeps_the_size_of_its_maps(
    kernel: tuple[int, int], residual: bool
) -> None:
    settings = ModelSettings(kernel=kernel, residual=residual, convolutions=2)
    layers = nn.Sequential(*block(settings, inputs=2, outputs=6))
    assert layers(torch.randn(2, 2, 9, 10)).shape == (2, 6, 9, 10)

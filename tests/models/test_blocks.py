"""Blocks: the residual sum, squeeze-and-excitation, and the size of maps."""

from typing import Any

import pytest
import torch
from torch import nn

from irmas_dist.config.model import ModelSettings
from irmas_dist.models.blocks import SqueezeExcite, block
from irmas_dist.models.cnn import CNN
from irmas_dist.models.norms import InstanceBatchNorm


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


def test_half_of_the_channels_of_ibn_are_normalised_in_each_window_and_half_over_the_batch() -> (
    None
):
    maps = torch.randn(4, 5, 8, 8)
    louder = maps.clone()
    louder[0] = 3 * maps[0] + 2
    norm = InstanceBatchNorm(5)
    of_windows, over_batch = norm(louder)[:, :2], norm(louder)[:, 2:]
    torch.testing.assert_close(of_windows, norm(maps)[:, :2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(over_batch, nn.BatchNorm2d(3)(louder[:, 2:]))
    # Without a batch, too, and the other half by running statistics.
    alone = norm.eval()(louder[:1])
    torch.testing.assert_close(alone[:, :2], of_windows[:1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone[:, 2:], norm.batch(louder[:1, 2:]))


@pytest.mark.parametrize("normalisation", ["none", "batch", "group", "instance", "ibn"])
def test_a_convolution_has_a_bias_unless_the_normalisation_after_it_subtracts_it(
    normalisation: Any,
) -> None:
    settings = ModelSettings(normalisation=normalisation, residual=True, width=8)
    layers = nn.Sequential(*block(settings, inputs=1, outputs=16))
    convolutions = [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d)]
    biased = {layer.bias is not None for layer in convolutions}
    maps = torch.randn(4, 1, 9, 10)
    before = layers(maps)
    for layer in convolutions:
        before_it = torch.zeros(16) if layer.bias is None else layer.bias
        layer.bias = nn.Parameter(before_it + torch.linspace(-1, 1, 16))
    same = torch.allclose(layers(maps), before, atol=1e-4)
    assert biased == {not same}


def test_ibn_is_after_the_first_convolution_of_each_block_but_the_last() -> None:
    settings = ModelSettings(
        blocks=3, width=2, convolutions=2, residual=True, normalisation="ibn", dense=0
    )
    counts = [
        [
            sum(isinstance(layer, kind) for layer in part.modules())
            for part in CNN(settings, 32, 32, 3).parts()
        ]
        for kind in (InstanceBatchNorm, nn.BatchNorm2d)
    ]
    assert counts == [[1, 1, 0, 0], [3, 3, 3, 0]]

"""A network in fewer steps gives the same logits."""

import pytest
import torch
from torch import nn

from irmas_dist.config.model import ModelSettings
from irmas_dist.inference.fuse import fused
from irmas_dist.models.cnn import CNN


@pytest.mark.parametrize("normalisation", ["none", "batch", "group", "instance", "ibn"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"activation": "elu", "residual": True, "squeeze_excite": True},
        {"activation": "gelu", "head": "flatten", "pooling": "average"},
        {"activation": "silu", "head": "attention", "dense": 0},
        {"activation": "relu", "head": "flatten", "convolutions": 1, "padding": 2},
    ],
)
def test_a_fused_network_gives_the_same_logits(settings: dict, normalisation: str) -> None:
    torch.manual_seed(0)
    dropout = {"blocks": 0.2, "dense": 0.3, "maps": 0.1, "head": 0.1}
    chosen = ModelSettings(
        **{"blocks": 3, "width": 8, "pool": 2, "dense": 16, "normalisation": normalisation,
           "dropout": dropout, **settings}
    )  # fmt: skip
    network = CNN(chosen, bands=32, frames=43, instruments=5)
    for _ in range(3):  # so that batch normalisation has statistics
        network(3 * torch.randn(8, 32, 43) + 1)
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    windows = torch.randn(4, 32, 43)
    with torch.no_grad():
        quick = fused(network)
        assert torch.allclose(quick(windows), network(windows), atol=1e-5)
    kinds = {type(module) for module in quick.modules()}
    assert not kinds & {nn.Dropout, nn.Dropout2d}
    assert (nn.BatchNorm2d in kinds) == (normalisation == "ibn")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

"""Heads: one vector per window, whatever its length."""

import pytest
import torch
from torch import nn

from irmas_dist.config.model import ModelSettings
from irmas_dist.models.heads import AttentionPool, head


@pytest.mark.parametrize("kind", ["flatten", "max", "average", "attention"])
@pytest.mark.parametrize("dense", [0, 7])
def test_every_head_gives_one_logit_per_instrument(kind: str, dense: int) -> None:
    settings = ModelSettings.model_validate({"head": kind, "dense": dense})
    layers = nn.Sequential(*head(settings, channels=4, values=30, instruments=11))
    assert layers(torch.randn(2, 4, 5, 6)).shape == (2, 11)


def test_attention_is_the_mean_for_zero_weights_and_the_largest_frame_for_large_ones() -> None:
    pool = AttentionPool(2)
    maps = torch.rand(3, 2, 5, 7)
    nn.init.zeros_(pool.attend.weight)
    torch.testing.assert_close(pool(maps), maps.mean(dim=(2, 3)))
    with torch.no_grad():
        pool.attend.weight.copy_(1_000 * torch.eye(2))
    torch.testing.assert_close(pool(maps), maps.mean(dim=2).amax(dim=2), atol=1e-3, rtol=0)

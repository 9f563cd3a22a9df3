"""Normalisation by halves: PyTorch's own values, gradients and running statistics.

In one pass of all channels on a CPU, by PyTorch's layers on a GPU.
"""

import copy

import pytest
import torch
from torch import Tensor, nn

from irmas_dist.models.norms import InstanceBatchNorm


class Reference(nn.Module):
    """The same of PyTorch's layers, one for each half of the channels."""

    def __init__(self, norm: InstanceBatchNorm) -> None:
        super().__init__()
        self.instance = copy.deepcopy(norm.instance)
        self.batch = copy.deepcopy(norm.batch)
        self.first = norm.per_window

    def forward(self, maps: Tensor) -> Tensor:
        halves = self.instance(maps[:, : self.first]), self.batch(maps[:, self.first :])
        return torch.cat(halves, dim=1)


def layers(channels: int) -> tuple[InstanceBatchNorm, Reference]:
    torch.manual_seed(channels)
    norm = InstanceBatchNorm(channels)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn_like(parameter))
    return norm, Reference(norm)


def drawn(channels: int, windows: int = 6) -> Tensor:
    """Maps whose windows and channels have means and deviations of their own."""
    shape = windows, channels, 5, 7
    loud = 0.3 + 3 * torch.rand(windows, channels, 1, 1)
    return torch.randn(shape) * loud + 4 * torch.randn(windows, channels, 1, 1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [2, 5, 8])
def test_values_gradients_and_running_statistics_are_pytorch_s(
    channels: int, memory_format: torch.memory_format
) -> None:
    norm, reference = layers(channels)
    for _ in range(3):
        maps = drawn(channels).to(memory_format=memory_format)
        weights = torch.randn_like(maps)
        grads = []
        for layer in (norm, reference):
            given = maps.clone().requires_grad_()
            layer.zero_grad()
            output = layer(given)
            (output * weights).sum().backward()
            grads.append([output, given.grad, *(each.grad for each in layer.parameters())])
        torch.testing.assert_close(*grads, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(*(dict(each.named_buffers()) for each in (norm, reference)))
    maps = drawn(channels, windows=1)
    torch.testing.assert_close(norm.eval()(maps), reference.eval()(maps), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_both_ways_give_the_same(kind: torch.dtype) -> None:
    norm, _ = layers(6)
    other = copy.deepcopy(norm)
    maps = drawn(6).to(kind).to(memory_format=torch.channels_last)
    weights = torch.randn_like(maps)
    found = []
    for layer, compute in ((norm, norm), (other, other.by_halves)):
        given = maps.clone().requires_grad_()
        output = compute(given)
        assert output.is_contiguous(memory_format=torch.channels_last)
        (output * weights).sum().backward()
        found.append([output, given.grad, *(each.grad for each in layer.parameters())])
    tolerance = 2e-3 if kind == torch.float32 else 5e-2
    torch.testing.assert_close(*found, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(*(dict(each.named_buffers()) for each in (norm, other)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_gives_what_a_cpu_does() -> None:
    norm, _ = layers(6)
    other = copy.deepcopy(norm).cuda()
    maps = drawn(6).bfloat16().to(memory_format=torch.channels_last)
    found = []
    for layer, on in ((norm, maps), (other, maps.cuda())):
        given = on.clone().requires_grad_()
        with torch.autocast(on.device.type, torch.bfloat16):
            output = layer(given)
        assert output.dtype == torch.bfloat16
        assert output.is_contiguous(memory_format=torch.channels_last)
        (output * (on > 0)).float().sum().backward()
        gradients = [given.grad, *(each.grad for each in layer.parameters())]
        found.append([output.cpu(), *(each.cpu() for each in gradients if each is not None)])
    torch.testing.assert_close(*found, atol=5e-2, rtol=5e-2)
    buffers = [
        {name: value.cpu() for name, value in each.named_buffers()} for each in (norm, other)
    ]
    torch.testing.assert_close(*buffers, atol=1e-3, rtol=1e-3)


def test_a_window_without_contrast_is_zero_before_the_bias() -> None:
    norm, reference = layers(6)
    maps = drawn(6)
    maps[0] = 7.0
    torch.testing.assert_close(norm(maps), reference(maps), atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(
        norm(maps)[0, :3], norm.instance.bias[:, None, None].expand(3, 5, 7), atol=2e-4, rtol=0
    )


def test_rounded_maps_are_normalised_in_float32() -> None:
    norm, _ = layers(6)
    maps = drawn(6).bfloat16()
    assert norm(maps).dtype == torch.bfloat16
    assert torch.equal(norm(maps), norm(maps.float()).bfloat16())


def test_statistics_of_other_clips_are_measured_without_training() -> None:
    norm, _ = layers(4)
    norm.eval()
    norm.batch.reset_running_stats()
    norm.batch.momentum = None
    norm.batch.train()
    parts = [drawn(4) for _ in range(3)]
    for part in parts:
        norm(part)
    means = torch.stack([part[:, 2:].mean((0, 2, 3)) for part in parts]).mean(0)
    torch.testing.assert_close(norm.batch.running_mean, means)


@pytest.mark.parametrize("training", [True, False])
def test_no_window_at_all_changes_nothing(training: bool) -> None:
    norm, _ = layers(4)
    before = copy.deepcopy(norm.batch.running_mean)
    norm.train(training)
    for forward in (norm, torch.compile(norm, backend="eager")):
        assert forward(torch.zeros(0, 4, 5, 7)).shape == (0, 4, 5, 7)
    torch.testing.assert_close(norm.batch.running_mean, before)

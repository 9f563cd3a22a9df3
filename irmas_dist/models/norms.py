"""Normalisation of maps: over each window, or half of the channels so and half over the batch."""

from typing import Any

import torch
from torch import Tensor, nn

PLANE = (2, 3)
"""Dimensions of a map's bands and frames."""


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation whose exported graph takes any number of windows."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape (windows, channels, bands, frames)."""
        if not torch.compiler.is_exporting() and len(maps):
            normalised: Tensor = super().forward(maps)
            return normalised
        # PyTorch's operation, faster on CPUs, fixes the number of windows of a part of the maps,
        # and refuses none of them, which a worker may have.
        var, mean = torch.var_mean(maps, dim=PLANE, correction=0, keepdim=True)
        normalised = (maps - mean) * torch.rsqrt(var + self.eps)
        return normalised * self.weight[:, None, None] + self.bias[:, None, None]


class InstanceBatchNorm(nn.Module):
    """One half of the channels normalised window by window, the other over the batch.

    The first half keeps little of what a recording's room, microphone and level do to it, the
    second what would be lost by that (IBN-a; Pan et al., "Two at once: enhancing learning and
    generalization capacities via IBN-Net", ECCV 2018).

    PyTorch's operations for either half, which need a copy of it, take a CPU three times as long.

    Args:
        channels: Channels of the maps, at least 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.per_window = channels // 2
        self.instance = InstanceNorm(self.per_window, affine=True)
        self.batch = nn.BatchNorm2d(channels - self.per_window)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape (windows, channels, bands, frames)."""
        if self.batch.training and not (self.training and len(maps)):
            # Of no window, or to measure the running statistics of other clips.
            first, second = maps[:, : self.per_window], maps[:, self.per_window :]
            return torch.cat([self.instance(first), self.batch(second)], dim=1)
        weight = torch.cat([self.instance.weight, self.batch.weight])[:, None, None]
        bias = torch.cat([self.instance.bias, self.batch.bias])[:, None, None]
        exact = maps.float()
        if self.training:
            normalised, mean, var = _Normalise.apply(
                exact, weight, bias, self.per_window, self.batch.eps
            )
            self._track(mean, var, len(maps) * maps[0, 0].numel())
        else:
            running = dict(self.batch.named_buffers())
            centred = exact - self._with(running["running_mean"], exact)
            var = self._with(running["running_var"], centred.square())
            normalised = torch.addcmul(bias, centred, weight * torch.rsqrt(var + self.batch.eps))
        return normalised.to(maps.dtype)

    def _with(self, running: Tensor, maps: Tensor) -> Tensor:
        """Return each window's means in the first half of the channels, a running one else."""
        of_windows = maps[:, : self.per_window].mean(PLANE, keepdim=True)
        of_all = running[:, None, None].expand(maps.shape[0], -1, 1, 1)
        return torch.cat([of_windows, of_all], dim=1)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Update the running statistics, as PyTorch does, with unbiased variances."""
        assert self.batch.momentum is not None
        running = dict(self.batch.named_buffers())
        running["num_batches_tracked"].add_(1)
        running["running_mean"].lerp_(mean, self.batch.momentum)
        running["running_var"].lerp_(var * (count / (count - 1)), self.batch.momentum)


class _Normalise(torch.autograd.Function):
    """Maps standardised by each window's statistics in the first channels, else the batch's.

    All channels at once, in five passes over the maps in either direction. The gradient is that of
    Ioffe and Szegedy, "Batch normalization" (2015), section 3, with means over either.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, per_window: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return maps, and mean and biased variance of the channels normalised over the batch."""
        mean = _means(maps, per_window)
        centred = maps - mean
        var = _means(centred.square(), per_window)
        inverse = torch.rsqrt(var + eps)
        ctx.save_for_backward(centred, inverse, weight)
        ctx.per_window = per_window
        tracked = [each[0, per_window:, 0, 0].clone() for each in (mean, var)]
        ctx.mark_non_differentiable(*tracked)
        return torch.addcmul(bias, centred, weight * inverse), tracked[0], tracked[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of maps, weight and bias."""
        centred, inverse, weight = ctx.saved_tensors
        size = gradient[0, 0].numel()
        along = gradient.mean(PLANE, keepdim=True)
        across = (gradient * centred).mean(PLANE, keepdim=True) * inverse
        of_bias, of_weight = (size * each.sum(0) for each in (along, across))
        scale = weight * inverse
        along, across = (_over_batch(each, ctx.per_window) for each in (along, across))
        of_maps = torch.addcmul(-scale * along, gradient, scale)
        of_maps.addcmul_(centred, -scale * inverse * across)
        return of_maps, of_weight, of_bias, None, None


def _means(maps: Tensor, per_window: int) -> Tensor:
    """Return means over each window's maps, or over the batch's, (windows, channels, 1, 1)."""
    return _over_batch(maps.mean(PLANE, keepdim=True), per_window)


def _over_batch(means: Tensor, per_window: int) -> Tensor:
    """Return means of windows as they are in the first channels, else their mean."""
    second = means[:, per_window:].mean(0, keepdim=True).expand(len(means), -1, -1, -1)
    return torch.cat([means[:, :per_window], second], dim=1)

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

    A GPU, on which each operation costs its launch, does so by PyTorch's two layers. These take a
    CPU three times as long as the same in fewer passes over the maps, of all channels at once.

    Args:
        channels: Channels of the maps, at least 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.per_window = channels // 2
        self.instance = InstanceNorm(self.per_window, affine=True)
        self.batch = nn.BatchNorm2d(channels - self.per_window)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape (windows, channels, bands, frames) and type."""
        if maps.is_cuda or (self.batch.training and not (self.training and len(maps))):
            # On a GPU; to learn from no window; or to measure the statistics of other clips.
            return self.by_halves(maps)
        halves = self.instance, self.batch
        weights, biases = ([getattr(half, name) for half in halves] for name in ("weight", "bias"))
        affine = torch.cat(weights + biases).view(2, -1, 1, 1)
        exact = maps.float()
        if self.training:
            normalised, mean, var = _Normalise.apply(exact, affine, self.per_window, self.batch.eps)
            self._track(mean, var, len(maps) * maps[0, 0].numel())
        else:
            of_windows = torch.stack(_mean_and_variance(_moments(exact[:, : self.per_window])))
            buffers = dict(self.batch.named_buffers())
            running = torch.stack([buffers["running_mean"], buffers["running_var"]])
            mean, var = _beside(of_windows, running.view(2, 1, -1, 1, 1))
            scale = affine[0] * torch.rsqrt(var + self.batch.eps)
            normalised = torch.addcmul(affine[1] - mean * scale, exact, scale)
        return normalised.to(maps.dtype)

    def by_halves(self, maps: Tensor) -> Tensor:
        """Return the same, computed by PyTorch's layers of either half."""
        first, second = _Part.apply(maps, self.per_window)
        joined: Tensor = _Join.apply(self.instance(first), self.batch(second))
        return joined

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Update the running statistics, as PyTorch does, with unbiased variances."""
        assert self.batch.momentum is not None
        running = dict(self.batch.named_buffers())
        running["num_batches_tracked"].add_(1)
        running["running_mean"].lerp_(mean, self.batch.momentum)
        running["running_var"].lerp_(var * (count / (count - 1)), self.batch.momentum)


def _parted(maps: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Return the first channels and the others, in the memory layouts of the fastest kernels.

    On a GPU, those for slices of channels compute each channel in a single block of threads.
    """
    others = maps[:, first:].contiguous(memory_format=torch.channels_last)
    return maps[:, :first].contiguous(), others


def _joined(first: Tensor, others: Tensor) -> Tensor:
    """Return all channels, with channels last, as networks keep their maps."""
    return torch.cat([first.contiguous(memory_format=torch.channels_last), others], dim=1)


class _Part(torch.autograd.Function):
    """`_parted`, whose gradients are joined."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return both parts."""
        return _parted(maps, first)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the maps."""
        return _joined(*gradients), None


class _Join(torch.autograd.Function):
    """`_joined`, whose gradient is parted."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, others: Tensor) -> Tensor:
        """Return all channels."""
        ctx.first = first.shape[1]
        return _joined(first, others)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of both parts."""
        return _parted(gradient, ctx.first)


class _Normalise(torch.autograd.Function):
    """Maps standardised by each window's statistics in the first channels, else the batch's.

    All channels at once, in as few passes over the maps as PyTorch's operations allow. The gradient
    is that of Ioffe and Szegedy, "Batch normalization" (2015), section 3, with means over either.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, affine: Tensor, per_window: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return maps, and mean and biased variance of the channels normalised over the batch.

        ``affine`` is weights and biases, shape (2, channels, 1, 1).
        """
        moments = _moments(maps)
        of_batch = moments[:, :, per_window:].mean(1, keepdim=True)
        mean, var = _mean_and_variance(_beside(moments[:, :, :per_window], of_batch))
        inverse = torch.rsqrt(var + eps)
        scale = affine[0] * inverse
        ctx.save_for_backward(maps, mean, inverse, scale)
        ctx.per_window = per_window
        tracked = [each[0, per_window:, 0, 0].clone() for each in (mean, var)]
        ctx.mark_non_differentiable(*tracked)
        shift = torch.addcmul(affine[1], mean, scale, value=-1)
        return torch.addcmul(shift, maps, scale), tracked[0], tracked[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of maps and affine."""
        maps, mean, inverse, scale = ctx.saved_tensors
        along = gradient.sum(PLANE, keepdim=True)
        across = (gradient * maps).sum(PLANE, keepdim=True)
        across = torch.addcmul(across, mean, along, value=-1) * inverse
        sums = torch.stack([across, along])
        first, second = sums[:, :, : ctx.per_window], sums[:, :, ctx.per_window :]
        across, along = _beside(first, second.mean(1, keepdim=True)) / -maps[0, 0].numel()
        tilt = scale * inverse * across
        shift = torch.addcmul(scale * along, tilt, mean, value=-1)
        of_maps = torch.addcmul(shift, maps, tilt).addcmul_(gradient, scale)
        return of_maps, sums.sum(1), None, None


def _moments(maps: Tensor) -> Tensor:
    """Return means of each map and of its squares, shape (2, windows, channels, 1, 1)."""
    # The norm is one pass over the maps, where squares would be other maps.
    norm = torch.linalg.vector_norm(maps, dim=PLANE, keepdim=True)
    # There may be no window, whose size could be asked for.
    size = maps.shape[2] * maps.shape[3]
    return torch.stack([maps.mean(PLANE, keepdim=True), norm.square() / size])


def _mean_and_variance(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return means, and biased variances, of means and mean squares."""
    mean, square = moments
    return mean, torch.addcmul(square, mean, mean, value=-1).clamp(min=0)


def _beside(of_windows: Tensor, of_all: Tensor) -> Tensor:
    """Return statistics of all channels: each window's, and beside them what all windows share.

    Of shapes (2, windows, channels, 1, 1), (2, 1, other channels, 1, 1), and
    (2, windows, all channels, 1, 1).
    """
    return torch.cat([of_windows, of_all.expand(-1, of_windows.shape[1], -1, -1, -1)], dim=2)

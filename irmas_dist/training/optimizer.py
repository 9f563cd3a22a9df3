"""From gradients to weights: optimiser, schedule, gradient clipping, weight average.

Several workers, whose gradients are already averaged, take the same steps.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from irmas_dist.config.training import TrainingSettings
from irmas_dist.errors import IrmasError

MOST_SKIPPED = 20
"""Consecutive steps without finite gradients after which training stops all the same."""

STATE = ("_steps", "skipped", "_skipped_in_a_row", "_drops", "_waited", "_best")
"""Attributes of an `Optimisation` that its state contains beside optimiser and average."""


class Optimisation:
    """The optimiser of a network, with schedule, clipping and weight average.

    Args:
        network: The network, on its device.
        settings: How to optimise.
        steps: Steps in an epoch.

    Attributes:
        network: The network that is optimised.
        skipped: Steps skipped so far.
    """

    def __init__(self, network: nn.Module, settings: TrainingSettings, steps: int) -> None:
        self.network, self.settings, self._epoch_steps = network, settings, steps
        self.skipped = 0
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        matrices = [p for p in self._parameters if p.ndim > 1]
        vectors = [p for p in self._parameters if p.ndim <= 1]
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        self._optimizer = kind(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=settings.lr,
            fused=True,
        )
        self._ema: AveragedModel | None = None
        if settings.ema:
            # Buffers too: statistics of batch normalisation must match the averaged weights.
            self._ema = AveragedModel(network, multi_avg_fn=self._average, use_buffers=True)
        self._steps = self._skipped_in_a_row = self._drops = self._waited = 0
        self._best = -math.inf
        self._buffers: list[Tensor] = []

    @property
    def networks(self) -> list[nn.Module]:
        """The network, and that of averaged weights if there is one."""
        return [self.network, *([self._ema.module] if self._ema is not None else [])]

    @property
    def validated(self) -> nn.Module:
        """The network to validate and to save: that of averaged weights if there is one."""
        return self.networks[-1]

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return self.settings.lr * self.factor(self._steps)

    def begin(self) -> None:
        """Begin a step: clear the gradients."""
        self._optimizer.zero_grad(set_to_none=True)
        if self.settings.on_nan == "skip":
            self._buffers = [buffer.clone() for buffer in self.network.buffers()]

    def step(self) -> bool:
        """Take a step along the gradients.

        Their norm shows whether they are finite. A single worker's NaN is in the averaged
        gradients of all workers, so that all decide alike without communicating.

        Returns:
            Whether the step was taken rather than skipped.

        Raises:
            IrmasError: The gradients are not finite, and are not to be skipped, or not this often.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        factor = self.factor(self._steps)
        self._steps += 1
        if not torch.isfinite(norm):
            self._skip()
            return False
        self._skipped_in_a_row = 0
        if self.settings.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self.settings.clip_norm, norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.lr * factor
        self._optimizer.step()
        if self._ema is not None:
            self._ema.update_parameters(self.network)
        return True

    def end_epoch(self, value: float) -> None:
        """Advance the plateau schedule by the value of an epoch: larger is better."""
        self._waited = 0 if value > self._best else self._waited + 1
        self._best = max(value, self._best)
        if self._waited >= self.settings.plateau_epochs:
            self._drops, self._waited = self._drops + 1, 0

    def factor(self, step: int) -> float:
        """Return the learning rate of a step, from 0, as a share of the highest."""
        warmup = self.settings.warmup_epochs * self._epoch_steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        match self.settings.schedule:
            case "constant":
                return 1.0
            case "plateau":
                return self.settings.plateau_factor**self._drops
            case "cosine":
                total = self.settings.epochs * self._epoch_steps
                done = min((step - warmup) / max(total - warmup, 1), 1.0)
                return 0.5 * (1 + math.cos(math.pi * done))

    def state_dict(self) -> dict[str, Any]:
        """Return the state that is needed to resume, without the network's own."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "ema": self._ema.state_dict() if self._ema is not None else None,
            **{name: getattr(self, name) for name in STATE},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state that `state_dict` returned; the settings are this object's own."""
        decays = [group["weight_decay"] for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["optimizer"])
        for group, decay in zip(self._optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = decay
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])
        for name in STATE:
            setattr(self, name, state[name])

    def _average(self, averaged: Any, current: Any, count: Tensor | int) -> None:
        # As in TensorFlow: otherwise the random initial weights would count for 1 / (1 - ema)
        # steps, which may be most of a short training.
        decay = min(self.settings.ema, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(decay)(averaged, current, count)

    def _skip(self) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        epoch = (self._steps - 1) // self._epoch_steps + 1
        advice = f"try a learning rate below training.lr={self.settings.lr:g}"
        if self.settings.on_nan == "stop":
            raise IrmasError(f"the loss became nan or infinite in epoch {epoch}; {advice}")
        if self._skipped_in_a_row >= MOST_SKIPPED:
            raise IrmasError(
                f"{MOST_SKIPPED} steps in a row had to be skipped in epoch {epoch}, as their "
                f"gradients were not finite; {advice}"
            )
        # Running statistics of normalisation may have become NaN in this step.
        for buffer, before in zip(self.network.buffers(), self._buffers, strict=True):
            buffer.copy_(before)

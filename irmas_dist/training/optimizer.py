"""From gradients to weights: optimiser, schedule, gradient clipping, weight average.

A step waits for nothing: what it decides, such as to skip gradients that are not finite, is
decided on the device, and read once per epoch. Several workers, whose gradients are already
averaged, take the same steps.
"""

import copy
import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from irmas_dist.config.training import TrainingSettings
from irmas_dist.errors import IrmasError

MOST_SKIPPED = 20
"""Consecutive steps without finite gradients after which training stops all the same."""

STATE = ("_steps", "_drops", "_waited", "_best")
"""Attributes of an `Optimisation` that its state contains beside those on the device."""

# The first steps on a GPU, before they are captured, are taken one by one.
warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")


class Optimisation:
    """The optimiser of a network, with schedule, clipping and weight average.

    Args:
        network: The network, on its device.
        settings: How to optimise.
        steps: Steps in an epoch.
        head: Parameters that have the head's learning rate.

    Attributes:
        network: The network that is optimised.
        frozen: Parameters that no step changes.
        skipped: Steps skipped until the end of the last epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: TrainingSettings,
        steps: int,
        head: Iterable[nn.Parameter] = (),
    ) -> None:
        self.network, self.settings, self._epoch_steps = network, settings, steps
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self.frozen: list[nn.Parameter] = []
        device = self._parameters[0].device
        # Tensors, so that a captured step reads the current rate. CUDA's kernel takes float32.
        real = torch.float32 if device.type == "cuda" else torch.float64
        self._lr = torch.tensor(settings.lr, dtype=real, device=device)
        self._head_lr = torch.tensor(settings.head_lr or settings.lr, dtype=real, device=device)
        apart = {id(p) for p in head} if settings.head_lr is not None else set()
        of_body = [p for p in self._parameters if id(p) not in apart]
        of_head = [p for p in self._parameters if id(p) in apart]
        groups = [
            group | {"lr": lr}
            for parameters, lr in ((of_body, self._lr), (of_head, self._head_lr))
            for group in _groups(parameters, settings.weight_decay)
        ]
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        self._optimizer: torch.optim.Optimizer = kind(
            groups,
            lr=settings.lr,
            fused=True,
            capturable=device.type == "cuda",
        )
        self._average: nn.Module | None = copy.deepcopy(network) if settings.ema else None
        self._averaged = torch.zeros((), device=device)  # how many weights are in the average
        # Steps skipped so far, now in a row, and the most in a row.
        self._skips = torch.zeros(3, dtype=torch.int64, device=device)
        self._steps = self._drops = self._waited = 0
        self._best = -math.inf
        self.skipped = 0
        self._buffers: list[Tensor] = []

    @property
    def networks(self) -> list[nn.Module]:
        """The network, and that of averaged weights if there is one."""
        return [self.network, *([self._average] if self._average is not None else [])]

    @property
    def validated(self) -> nn.Module:
        """The network to validate and to save: that of averaged weights if there is one."""
        return self.networks[-1]

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return self.settings.lr * self.factor(self._steps)

    def rates(self, steps: int) -> Tensor:
        """Return the learning rates of the next steps, on the host, shape (steps,)."""
        rates = [self.settings.lr * self.factor(self._steps + step) for step in range(steps)]
        return torch.tensor(rates, dtype=self._lr.dtype)

    def begin(self) -> None:
        """Begin a step: clear the gradients."""
        self._optimizer.zero_grad(set_to_none=True)
        if self.settings.on_nan == "skip":
            self._buffers = [buffer.clone() for buffer in self.network.buffers()]

    def step(self, lr: Tensor) -> Tensor:
        """Take a step along the gradients, unless they are not finite.

        Their norm shows whether they are. A single worker's NaN is in the averaged gradients of
        all workers, so that all decide alike without communicating.

        Args:
            lr: Learning rate, on the device, shape ().

        Returns:
            Whether the step was taken rather than skipped, on the device, shape ().
        """
        for parameter in self.frozen:
            parameter.grad = None
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        taken = norm < torch.inf  # and no NaN
        if self.settings.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self.settings.clip_norm, norm)
        self._lr.copy_(lr)
        if self.settings.head_lr is not None:
            torch.mul(self._lr, self.settings.head_lr / self.settings.lr, out=self._head_lr)
        # The fused kernel of Adam takes no step where this is 1.
        self._optimizer.grad_scale = None  # type: ignore[attr-defined]
        self._optimizer.found_inf = (~taken).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        if self.settings.on_nan == "stop":
            self._skips[0].add_(~taken)
        else:
            total, row, longest = self._skips.unbind()
            skipped = (~taken).long()
            row = (row + skipped) * skipped
            torch.stack([total + skipped, row, torch.maximum(longest, row)], out=self._skips)
        # Running statistics of normalisation may have become NaN in a skipped step.
        for buffer, before in zip(self.network.buffers(), self._buffers, strict=False):
            buffer.copy_(torch.where(taken, buffer, before))
        if self._average is not None:
            self._update_average(self._average, taken.float())
        return taken

    def average_buffers(self, workers: int) -> None:
        """Average the running statistics of batch normalisation over workers."""
        for network in self.networks:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= workers

    def end_steps(self, steps: int) -> None:
        """Count the steps of an epoch that were taken or skipped.

        Raises:
            IrmasError: Gradients were not finite, and are not to be skipped, or not this often.
        """
        self._steps += steps
        before, (self.skipped, _, longest) = self.skipped, self._skips.tolist()
        self._skips[2] = 0
        epoch = (self._steps - 1) // self._epoch_steps + 1
        advice = f"try a learning rate below training.lr={self.settings.lr:g}"
        if self.settings.on_nan == "stop" and self.skipped > before:
            raise IrmasError(f"the loss became nan or infinite in epoch {epoch}; {advice}")
        if longest >= MOST_SKIPPED:
            raise IrmasError(
                f"{longest} steps in a row had to be skipped in epoch {epoch}, as their "
                f"gradients were not finite; {advice}"
            )

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
            # By parameter: groups depend on the weight decay, which another trial may change.
            "optimizer": [self._optimizer.state.get(p, {}) for p in self._parameters],
            "average": self._average.state_dict() if self._average is not None else None,
            "averaged": self._averaged,
            "skips": self._skips,
            **{name: getattr(self, name) for name in STATE},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state that `state_dict` returned; the settings are this object's own."""
        if len(state["optimizer"]) != len(self._parameters):
            raise ValueError("in loading state_dict of the optimiser: it has other parameters")
        groups = self._optimizer.param_groups
        own = [{name: group[name] for name in group if name != "params"} for group in groups]
        states = dict(zip(map(id, self._parameters), state["optimizer"], strict=True))
        in_order = [states[id(p)] for group in groups for p in group["params"]]
        # Through the optimiser, which brings them to the device.
        self._optimizer.load_state_dict(
            self._optimizer.state_dict()
            | {"state": {number: one for number, one in enumerate(in_order) if one}}
        )
        for group, settings in zip(self._optimizer.param_groups, own, strict=True):
            group.update(settings)  # It has copied the learning rate, which steps write to.
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._averaged.copy_(state["averaged"])
        self._skips.copy_(state["skips"])
        self.skipped = int(self._skips[0])
        for name in STATE:
            setattr(self, name, state[name])

    def _update_average(self, average: nn.Module, taken: Tensor) -> None:
        """Move the average towards the network's weights, if the step was taken.

        Buffers too: statistics of batch normalisation must match the averaged weights.
        """
        # As in TensorFlow: otherwise the random initial weights would count for 1 / (1 - ema)
        # steps, which may be most of a short training.
        decay = ((1 + self._averaged) / (10 + self._averaged)).clamp(max=self.settings.ema)
        weight = torch.where(self._averaged == 0, 1.0, 1 - decay) * taken
        with torch.no_grad():
            pairs = list(zip(_values(average), _values(self.network), strict=True))
            reals = [pair for pair in pairs if pair[0].is_floating_point()]
            averages = [mean for mean, _ in reals]
            gaps = torch._foreach_sub([value for _, value in reals], averages)
            torch._foreach_mul_(gaps, weight)
            torch._foreach_add_(averages, gaps)
            for mean, value in pairs:
                if not mean.is_floating_point():
                    mean.copy_(value)
        self._averaged += taken


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return matrices, which decay, and vectors; each group is a launch or three on a GPU."""
    if not weight_decay:
        groups = [(parameters, 0.0)]
    else:
        matrices = [p for p in parameters if p.ndim > 1]
        groups = [(matrices, weight_decay), ([p for p in parameters if p.ndim <= 1], 0.0)]
    return [{"params": of, "weight_decay": decay} for of, decay in groups if of]


def _values(network: nn.Module) -> list[Tensor]:
    """Return parameters and buffers."""
    return [*network.parameters(), *network.buffers()]

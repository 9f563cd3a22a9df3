"""One training step: examples, network, loss, gradients, update; it waits for no device."""

import functools
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from irmas_dist.models.standardise import Standardise
from irmas_dist.training import epoch_metrics
from irmas_dist.training.augment import Mixer
from irmas_dist.training.losses import Loss
from irmas_dist.training.optimizer import Optimisation
from irmas_dist.training.precision import Autocast
from irmas_dist.training.steps import DeviceMixtures, PlannedSteps, StepSize
from irmas_dist.training.windows import DeviceClips


class TrainingStep:
    """A worker's part in the steps of a training.

    Nothing in a step depends on a value on the device: it copies nothing between host and device
    and asks the device nothing, so that it can be captured as a CUDA graph.

    Args:
        network: The network, data-parallel with several workers.
        mixer: Makes the examples.
        standardise: Applied to them.
        loss: Sum over windows and instruments.
        optimisation: Of the network.
        autocast: Context of the network.
        frames: Length of an example.
        workers: Number of workers.

    Attributes:
        totals: Loss and `count_decisions` of this worker's examples since the last reset, on the
            device, float64; skipped steps are not in it.
        optimisation: Of the network.
        workers: Number of workers.
    """

    def __init__(
        self,
        network: nn.Module,
        mixer: Mixer,
        standardise: Standardise,
        loss: Loss,
        optimisation: Optimisation,
        autocast: Autocast,
        frames: int,
        workers: int,
    ) -> None:
        self._network, self._mixer, self._standardise, self._loss = (
            network,
            mixer,
            standardise,
            loss,
        )
        self.optimisation, self._autocast = optimisation, autocast
        self._frames, self.workers = frames, workers
        self._device = standardise.mean.device
        self.totals = torch.zeros(
            1 + epoch_metrics.COUNTS, dtype=torch.float64, device=self._device
        )

    def run(self, pool: DeviceClips, plan: PlannedSteps, rates: Tensor) -> None:
        """Take all planned steps, one after the other.

        Args:
            pool: Clips of which the examples are made.
            plan: The steps.
            rates: Learning rate of each, on the host.
        """
        rows, rates = plan.to_device(self._device), rates.to(self._device)
        for number, (size, sources) in enumerate(zip(plan.sizes, plan.sources, strict=True)):
            self(pool, rows[number], rates[number], plan, size, sources)

    def __call__(
        self,
        pool: DeviceClips,
        rows: Tensor,
        lr: Tensor,
        plan: PlannedSteps,
        size: StepSize,
        sources: tuple[int, ...],
    ) -> None:
        """Take a step.

        Args:
            pool: Clips of which the examples are made.
            rows: Of the step, packed by `pack_steps`, shape (parts, width).
            lr: Learning rate, shape ().
            plan: Which gives layout and changes.
            size: Number of examples.
            sources: Number of sources of each part: at least those that are used, at most those
                for which rows have space.
        """
        self.optimisation.begin()
        parts = [
            plan.layout.unpack(rows[part], sources[part], examples, plan.changes)
            for part, examples in enumerate(size.parts)
        ]
        totals = self.backward(pool, parts, size.examples)
        taken = self.optimisation.step(lr)
        self.totals += torch.where(taken, totals, 0.0)

    def backward(self, pool: DeviceClips, parts: list[DeviceMixtures], examples: int) -> Tensor:
        """Add the gradients of the loss over a step's ``examples``, of which parts are given.

        Returns:
            Loss and `count_decisions` of the parts, float64.
        """
        totals = []
        for number, part in enumerate(parts):
            mel, labels = self._mixer(pool, part, self._frames)
            windows = self._standardise(mel)
            # Workers' gradients are averaged once, with those of the last part.
            no_sync = getattr(self._network, "no_sync", nullcontext)
            with nullcontext() if number == len(parts) - 1 else no_sync():
                with self._autocast():
                    logits = self._network(windows)
                loss = self._loss(logits, labels)
                # The mean over the examples of all workers: gradients are averaged over workers,
                # so that each share must count as many times as there are workers.
                loss.backward(torch.full_like(loss, self.workers / (examples * labels.shape[1])))
            counts = epoch_metrics.count_decisions(logits.detach(), labels)
            totals.append(torch.cat([loss.detach().double()[None], counts]))
        return functools.reduce(torch.add, totals)

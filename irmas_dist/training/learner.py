"""The Learner: a network and its epochs, without Ray.

Ray Train drives it, Ray Tune drives it, a test drives it in ten lines. With several workers,
torch.distributed connects them.
"""

import math
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from irmas_dist.config.training import LearnerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips
from irmas_dist.instruments import hard_labels
from irmas_dist.models.cnn import CNN, initialise
from irmas_dist.models.standardise import Standardise
from irmas_dist.training import epoch_metrics
from irmas_dist.training.augment import Mixer
from irmas_dist.training.data import TrainingData
from irmas_dist.training.graph import Repeated, capture
from irmas_dist.training.ingest import ClipLoader
from irmas_dist.training.initial_model import frozen_blocks, start_network
from irmas_dist.training.losses import Loss
from irmas_dist.training.optimizer import Optimisation
from irmas_dist.training.precision import Autocast, compile_network, without_tf32
from irmas_dist.training.sampling import StoreWeights, plan_epoch
from irmas_dist.training.step import TrainingStep
from irmas_dist.training.steps import Changes, PlannedSteps, pack_steps
from irmas_dist.training.windows import (
    ClipWindows,
    DeviceClips,
    DeviceWindows,
    WindowOutputs,
    covering_windows,
    score_windows,
)  # fmt: skip

SELECTED_BY = "val_macro_f1"
"""The metric by which epochs and trials are compared: larger is better."""

STATE = ("epoch", "history", "best_epoch", "best_weights")
"""Attributes of a Learner that a checkpoint contains beside network and optimiser."""

DATA_PARALLEL: Mapping[str, Any] = {"gradient_as_bucket_view": True, "broadcast_buffers": False}
"""Arguments of `DistributedDataParallel`. Each worker has running statistics of its own until they
are averaged: broadcast in every step, they would be those of one worker's share."""


class Learner:
    """A network that learns a `TrainingData`, epoch by epoch.

    For the same seed any number of workers takes the same steps, up to rounding: the examples of
    a step are drawn for all workers together, each takes an equal share of them (to within one
    example), and the loss is the mean over all. Two things differ between workers: dropout, whose
    draws depend on the rank, so that loss curves with it agree only as those of two seeds do; and
    batch normalisation, since each worker normalises its own share. Its running statistics are
    averaged after every epoch.

    Args:
        data: What to train on and validate with.
        settings: How to train.
        device: Where to compute.
        rank: This worker's number.
        workers: Number of workers; with more than one, torch.distributed must be set up.
        wrap: Makes the network data-parallel, such as Ray Train's ``prepare_model``.

    Attributes:
        network: The network in its current state.
        epoch: Completed epochs.
        history: Metrics of every completed epoch.
        best_epoch: The epoch, from 1, with the best validation macro F1 so far.
        best_weights: The validated network's weights after it, on the CPU.
    """

    def __init__(
        self,
        data: TrainingData,
        settings: LearnerSettings,
        *,
        device: torch.device | str = "cpu",
        rank: int = 0,
        workers: int = 1,
        wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    ) -> None:
        self.data, self.settings = data, settings
        self.rank, self.workers = rank, workers
        self.device = torch.device(device)
        training = settings.training
        features = data.store.settings
        self.frames = settings.window.frames(features)
        self.network = CNN(settings.model, features.bands, self.frames, len(data.store.vocabulary))
        initialise(self.network, settings.seed)
        start_network(self.network, settings, data.store.vocabulary, data.start)
        # Convolutions are faster with channels last, on CPUs and GPUs alike.
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._parallel = wrap(self.network)
        if training.compile:
            compile_network(self._parallel, self.device)
        stores = data.stores
        self._loss = Loss(
            training.loss, data.training.labels, partial=data.is_partial, weights=stores.of_clips
        )
        self._loss.to(self.device)
        self._standardise = Standardise(*data.normalisation).to(self.device)
        self._loader = ClipLoader(data.training, settings.seed, self.device, stores)
        self._validation = DeviceClips(data.validation, self.device)
        self._windows = self._windows_of(data.validation)
        self._places = self._windows.to_device(self.device)
        self._window_labels = self._validation.labels[self._places.clips]
        self._known = int(self._window_labels.isfinite().sum())
        self._steps = sum(map(self._steps_in, self._loader.pools))
        head = self.network.parts()[-1].parameters()
        self._optimisation = Optimisation(self.network, training, self._steps, head)
        self._autocast = Autocast(training.precision, self.device)
        mixer = Mixer(features, self._standardise.mean, self.device)
        self._step = TrainingStep(
            self._parallel, mixer, self._standardise, self._loss, self._optimisation,
            self._autocast, self.frames, workers,
        )  # fmt: skip
        self._graphs = capture(self._step, training, self._loader.resident, self.device)
        self._repeated_validation: Repeated[tuple[WindowOutputs, Tensor]] | None = None
        if self._graphs and self._validation.is_on_device:
            self._repeated_validation = self._graphs.repeated()
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    def run_epoch(self) -> dict[str, float]:
        """Train for one epoch, validate, and keep the weights when they are the best so far."""
        metrics = {**self.train_epoch(), **self.validate(), "epoch": float(self.epoch)}
        self._optimisation.end_epoch(metrics[SELECTED_BY])
        best = max((epoch[SELECTED_BY] for epoch in self.history), default=-math.inf)
        if metrics[SELECTED_BY] > best:
            self.best_epoch = self.epoch
            self.best_weights = {
                name: value.detach().to("cpu", copy=True)
                for name, value in self._optimisation.validated.state_dict().items()
            }
        self.history.append(metrics)
        return metrics

    @property
    def finished(self) -> bool:
        """Whether all epochs are completed, or none was better for as many as patience allows."""
        return self.settings.training.ends_after(self.epoch, self.best_epoch)

    def train_epoch(self) -> dict[str, float]:
        """Pass once over the training clips, of several stores over those of the first.

        Returns:
            Over all workers' examples, ``train_loss``, and at a threshold of 0.5
            ``train_label_accuracy``, ``train_micro_precision`` and ``train_micro_recall``; the
            learning rate at the end, ``train_lr``; and, where steps may be skipped,
            ``train_skipped``, the number skipped so far.

        Raises:
            IrmasError: The loss is not finite.
        """
        # Seeded by epoch, not carried along: an epoch is the same after a resume.
        torch.manual_seed(hash((self.settings.seed, self.epoch, self.rank)) % 2**63)
        self._parallel.train()
        self._step.totals.zero_()
        rates = self._optimisation.rates(self._steps)
        ahead = self.epoch + 1 < self.settings.training.epochs
        freeze = self.settings.training.freeze
        if self._graphs is not None and self.epoch == freeze.epochs:
            self._graphs.reset()  # They leave out what was frozen.
        blocks = freeze.blocks if self.epoch < freeze.epochs else 0
        with frozen_blocks(self.network, blocks, self._optimisation, alone=self.workers == 1):
            for pool, plan in self._loader.epoch(self.epoch, self.plan_steps, plan_ahead=ahead):
                steps = len(plan.sizes)
                (self._graphs or self._step).run(pool, plan, rates[:steps])
                rates = rates[steps:]
        totals = self._step.totals.clone()
        if self.workers > 1:
            dist.all_reduce(totals)
            self._optimisation.average_buffers(self.workers)
        self.epoch += 1
        self._optimisation.end_steps(self._steps)
        loss, decisions = totals[:2].tolist()
        if not math.isfinite(loss):
            raise IrmasError(f"the loss became {loss} in epoch {self.epoch}")
        skips = self.settings.training.on_nan == "skip"
        return {
            "train_loss": loss / max(decisions, 1),
            **epoch_metrics.training_metrics(totals[1:]),
            "train_lr": self._optimisation.lr,
            **({"train_skipped": float(self._optimisation.skipped)} if skips else {}),
        }

    def _steps_in(self, pool: StoreWeights) -> int:
        """Return the number of steps for a pool of clips."""
        training = self.settings.training
        return math.ceil(sum(pool.examples(training.windows_per_clip)) / training.batch_size)

    def plan_steps(self, clips: Clips, epoch: int, number: int, capacity: int) -> PlannedSteps:
        """Draw this worker's steps of an epoch's pool, numbered from 0."""
        training, stores = self.settings.training, self._loader.pools[number]
        plan = plan_epoch(
            clips,
            self.data.store.settings.bands,
            self.frames,
            training.windows_per_clip,
            self.settings.augment,
            np.random.default_rng([self.settings.seed, epoch, number]),
            stores,
        )
        return pack_steps(
            plan,
            Changes.of(plan, clips.lengths, self.frames),
            steps=self._steps_in(stores),
            rank=self.rank,
            workers=self.workers,
            parts=training.accumulate,
            capacity=capacity,
            pinned=self.device.type == "cuda",
        )

    def validate(self) -> dict[str, float]:
        """Return ``val_loss``, over windows, and the `validation_metrics` of the clips."""
        scores, loss = self.score_validation()
        labels = hard_labels(self.data.validation.labels)
        stores = [one.clips for one in self.data.validated_on]
        return {"val_loss": loss} | epoch_metrics.validation_metrics(
            labels, scores, self.settings.thresholds, self.data.store.vocabulary, stores
        )

    def score_validation(self) -> tuple[np.ndarray, float]:
        """Score every validation clip once, each worker a share of them.

        Returns:
            Scores, float32, shape (clips, instruments), and the mean loss over all windows.
        """
        repeated, work = self._repeated_validation, self._validate_windows
        outputs, loss = repeated(work) if repeated else work()
        scores = outputs.of_clips(self._windows, self.settings.window.aggregation)
        shares = self._gathered((scores, float(loss), self._known))
        total = sum(share[1] for share in shares) / max(sum(share[2] for share in shares), 1)
        return np.concatenate([share[0] for share in shares]), total

    def score(self, clips: Clips) -> npt.NDArray[np.float32]:
        """Score clips once, as the trained model does: shape (clips, instruments).

        In float32, whatever the precision of training; each worker scores a share of the clips.
        """
        windows = self._windows_of(clips)
        with without_tf32:
            outputs = self._outputs(DeviceClips(clips, self.device), windows.to_device(self.device))
        scores = outputs.of_clips(windows, self.settings.window.aggregation)
        return np.concatenate(self._gathered(scores))

    def _windows_of(self, clips: Clips) -> ClipWindows:
        """Return the windows of this worker's share of some clips."""
        share = np.array_split(np.arange(len(clips)), self.workers)[self.rank]
        hop = self.settings.window.hop_frames(self.data.store.settings)
        windows = covering_windows(clips.lengths[share], self.frames, hop)
        windows.clips[:] = share[windows.clips]
        return windows

    def _validate_windows(self) -> tuple[WindowOutputs, Tensor]:
        with self._autocast():
            outputs = self._outputs(self._validation, self._places)
        return outputs, self._loss(outputs.logits, self._window_labels)

    def _outputs(self, clips: DeviceClips, windows: DeviceWindows) -> WindowOutputs:
        return score_windows(
            self._optimisation.validated, self._standardise, clips, windows, self.frames,
            self.data.store.settings,
        )  # fmt: skip

    def _gathered(self, share: Any) -> list[Any]:
        """Return the share of each worker."""
        shares: list[Any] = [share]
        if self.workers > 1:
            shares = [None] * self.workers
            dist.all_gather_object(shares, share)
        return shares

    def restore_best(self) -> None:
        """Load the best epoch's weights into the network."""
        for network in self._optimisation.networks:
            network.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which a Learner with the same settings can resume."""
        return {
            "network": self.network.state_dict(),
            "optimisation": self._optimisation.state_dict(),
            **{name: getattr(self, name) for name in STATE},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state that `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self._optimisation.load_state_dict(state["optimisation"])
        if self._graphs is not None:
            self._graphs.reset()
        for name in STATE:
            setattr(self, name, copy(state[name]))
        self.best_weights = {name: weight.cpu() for name, weight in self.best_weights.items()}

"""The Learner: a network and its epochs. It knows nothing of Ray.

Ray Train drives it, Ray Tune drives it, a test drives it in ten lines. One of several workers
is told its rank; torch.distributed does the rest.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from irmas_dist.config.training import LearnerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.models.cnn import CNN, initialise
from irmas_dist.models.standardise import Standardise
from irmas_dist.training.augment import Mixer
from irmas_dist.training.data import TrainingData
from irmas_dist.training.epoch_metrics import training_metrics, validation_metrics
from irmas_dist.training.ingest import ClipLoader
from irmas_dist.training.losses import Loss
from irmas_dist.training.optimizer import Optimisation
from irmas_dist.training.precision import autocast, compile_network
from irmas_dist.training.sampling import Mixtures, plan_epoch
from irmas_dist.training.windows import DeviceClips, covering_windows, window_logits

SELECTED_BY = "val_macro_f1"
"""The metric by which epochs and trials are compared: larger is better."""


class Learner:
    """A network that learns a `TrainingData`, epoch by epoch.

    For the same seed any number of workers takes the same steps, up to rounding: the examples of
    a step are drawn for all workers together, each takes an equal share, equal but for one
    example, and the loss is the mean over them all. What does differ from worker to worker is
    dropout, whose draws depend on the rank, so that with it loss curves agree only as those of
    two seeds do; and batch normalisation, as each worker normalises its share by itself. Their
    running statistics are averaged after every epoch.

    Args:
        task: What to learn, and what to be judged by.
        settings: How.
        device: Where to compute.
        rank: This worker's number.
        workers: Number of workers; with more than one, torch.distributed must be set up.
        wrap: What makes the network data-parallel, such as Ray Train's ``prepare_model``.

    Attributes:
        network: The network as it is now.
        epoch: Epochs done.
        history: Metrics of every epoch so far.
        best_epoch: The epoch, from 1, with the best validation macro F1 so far.
        best_weights: The judged network's weights after it, on the CPU.
        finished: Whether all epochs are done, or patience has run out.
    """

    def __init__(
        self,
        task: TrainingData,
        settings: LearnerSettings,
        *,
        device: torch.device | str = "cpu",
        rank: int = 0,
        workers: int = 1,
        wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    ) -> None:
        self.task, self.settings = task, settings
        self.rank, self.workers = rank, workers
        self.device = torch.device(device)
        training = settings.training
        features = task.store.settings
        self.frames = settings.window.frames(features)
        self.network = CNN(settings.model, features.bands, self.frames, len(task.store.vocabulary))
        initialise(self.network, settings.seed)
        # Convolutions are quicker with channels last, on CPUs and GPUs alike.
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._parallel = wrap(self.network)
        if training.compile:
            compile_network(self._parallel, self.device)
        self._loss = Loss(training.loss, task.training.labels).to(self.device)
        self._standardise = Standardise(task.store.mean, task.store.std).to(self.device)
        self._mixer = Mixer(features, self._standardise.mean, self.device)
        self._pools = ClipLoader(task.training, settings.seed, self.device)
        self._judged = DeviceClips(task.validation, self.device)
        self._steps = sum(map(self._steps_in, self._pools.sizes))
        self._optimisation = Optimisation(self.network, training, self._steps)
        self._running = training_metrics(len(task.store.vocabulary), self.device)
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    def run_epoch(self) -> dict[str, float]:
        """Train for one epoch, validate, and remember the weights when they are the best yet."""
        metrics = {**self.train_epoch(), **self.validate(), "epoch": float(self.epoch)}
        self._optimisation.end_epoch(metrics[SELECTED_BY])
        if (
            not self.history
            or metrics[SELECTED_BY] > self.history[self.best_epoch - 1][SELECTED_BY]
        ):
            self.best_epoch = self.epoch
            self.best_weights = {
                name: value.detach().cpu().clone()
                for name, value in self._optimisation.judged.state_dict().items()
            }
        self.history.append(metrics)
        return metrics

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or no better one came for as long as patience lasts."""
        waited = self.epoch - self.best_epoch
        return (
            self.epoch >= self.settings.training.epochs or waited >= self.settings.training.patience
        )

    def train_epoch(self) -> dict[str, float]:
        """Pass once over the training clips.

        Returns:
            Over all workers' examples, ``train_loss``, and at a threshold of 0.5
            ``train_label_accuracy``, ``train_micro_precision`` and ``train_micro_recall``; the
            learning rate at the end, ``train_lr``; and, where steps may be skipped,
            ``train_skipped``, how many were so far.

        Raises:
            IrmasError: The loss is no longer a number.
        """
        # Seeded by epoch, not carried along: an epoch is the same after a resume.
        torch.manual_seed(hash((self.settings.seed, self.epoch, self.rank)) % 2**63)
        self._parallel.train()
        self._running.reset()
        # Loss, and decisions that it is the sum of.
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        for number, pool in enumerate(self._pools.epoch(self.epoch)):
            plan = self._plan(pool, number)
            steps = self._steps_in(len(pool.clips))
            for step in range(steps):
                low, high = (len(plan) * (step + i) // steps for i in range(2))
                mine = plan.part(
                    *(low + (high - low) * (self.rank + i) // self.workers for i in range(2))
                )
                totals += self._step(pool, mine, examples=high - low)
        if self.workers > 1:
            dist.all_reduce(totals)
            self._join_buffers()
        self.epoch += 1
        loss, decisions = totals.tolist()
        if not math.isfinite(loss):
            raise IrmasError(f"the loss became {loss} in epoch {self.epoch}")
        skips = self.settings.training.on_nan == "skip"
        return {
            "train_loss": loss / max(decisions, 1),
            **{name: float(value) for name, value in self._running.compute().items()},
            "train_lr": self._optimisation.lr,
            **({"train_skipped": float(self._optimisation.skipped)} if skips else {}),
        }

    def _steps_in(self, clips: int) -> int:
        """Steps that a pool of so many clips makes."""
        training = self.settings.training
        return math.ceil(clips * training.windows_per_clip / training.batch_size)

    def _plan(self, pool: DeviceClips, number: int) -> Mixtures:
        return plan_epoch(
            pool.clips,
            self.task.store.settings.bands,
            self.frames,
            self.settings.training.windows_per_clip,
            self.settings.augment,
            np.random.default_rng([self.settings.seed, self.epoch, number]),
        )

    def _examples(self, pool: DeviceClips, plan: Mixtures) -> tuple[Tensor, Tensor]:
        mel, labels = self._mixer(pool, plan, self.frames)
        return self._standardise(mel), labels

    def _step(self, pool: DeviceClips, plan: Mixtures, examples: int) -> Tensor:
        """Learn from this worker's share of a step; return its loss and number of decisions."""
        parts = min(self.settings.training.accumulate, max(len(plan), 1))
        passed: list[tuple[Tensor, Tensor, Tensor]] = []
        self._optimisation.begin()
        for part in range(parts):
            low, high = (len(plan) * (part + i) // parts for i in range(2))
            windows, labels = self._examples(pool, plan.part(low, high))
            # Workers' gradients are averaged once, with the last part's.
            apart = getattr(self._parallel, "no_sync", nullcontext)
            with nullcontext() if part == parts - 1 else apart():
                with autocast(self.settings.training.precision, self.device):
                    logits = self._parallel(windows)
                loss = self._loss(logits, labels)
                # The mean over the whole step's examples, wherever they are: workers' gradients
                # are averaged, so each one's share counts as many times as there are workers.
                (loss * (self.workers / (examples * labels.shape[1]))).backward()
            passed.append((loss.detach(), logits.detach(), labels))
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        if self._optimisation.step():
            for loss, logits, labels in passed:
                totals += torch.stack([loss, torch.full_like(loss, labels.numel())])
                if len(labels):
                    self._running.update((logits > 0).long(), labels.long())
        return totals

    def _join_buffers(self) -> None:
        """Average over workers what batch normalisation has seen."""
        for network in self._optimisation.networks:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= self.workers

    def validate(self) -> dict[str, float]:
        """Score the validation mixtures.

        Returns:
            ``val_loss``, over windows, and what `validation_metrics` says of the clips.
        """
        scores, loss = self.score_validation()
        task = self.task
        return {
            "val_loss": loss,
            **validation_metrics(
                task.validation.labels, scores, self.settings.thresholds, task.store.vocabulary
            ),
        }

    def score_validation(self) -> tuple[np.ndarray, float]:
        """Score every validation clip once, each worker a share of them.

        Returns:
            Scores, float32, shape (clips, instruments), and the mean loss over all windows.
        """
        clips = self.task.validation
        features = self.task.store.settings
        mine = np.array_split(np.arange(len(clips)), self.workers)[self.rank]
        windows = covering_windows(
            clips.lengths[mine], self.frames, self.settings.window.hop_frames(features)
        )
        windows.clips[:] = mine[windows.clips]
        with autocast(self.settings.training.precision, self.device):
            logits = window_logits(
                self._optimisation.judged,
                self._standardise,
                self._judged,
                windows,
                self.frames,
                features.log_floor,
            )
        labels = torch.from_numpy(clips.labels[windows.clips]).float()
        loss = float(self._loss(logits.to(self.device), labels.to(self.device)))
        scores = aggregate(
            logits.sigmoid().numpy(), windows.bounds, self.settings.window.aggregation
        )
        shares: list[Any] = [(scores, loss, labels.numel())]
        if self.workers > 1:
            shares = [None] * self.workers
            dist.all_gather_object(shares, (scores, loss, labels.numel()))
        total = sum(share[1] for share in shares) / sum(share[2] for share in shares)
        return np.concatenate([share[0] for share in shares]), total

    def restore_best(self) -> None:
        """Go back to the best epoch's weights."""
        for network in self._optimisation.networks:
            network.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a Learner with the same settings needs to go on from here."""
        return {
            "network": self.network.state_dict(),
            "optimisation": self._optimisation.state_dict(),
            "epoch": self.epoch,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was called."""
        self.network.load_state_dict(state["network"])
        self._optimisation.load_state_dict(state["optimisation"])
        self.epoch = state["epoch"]
        self.history = list(state["history"])
        self.best_epoch = state["best_epoch"]
        self.best_weights = state["best_weights"]

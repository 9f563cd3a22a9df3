"""The Learner: a network, its optimiser, one epoch. It knows nothing of Ray.

Ray Train drives it, Ray Tune drives it, a test drives it in ten lines. One of several workers
is told its rank; torch.distributed does the rest.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.evaluation.metrics import evaluate, precision_recall_f1
from irmas_dist.evaluation.thresholds import ThresholdSettings, decide, fit_thresholds
from irmas_dist.models.cnn import CNN, initialise
from irmas_dist.models.settings import ModelSettings
from irmas_dist.settings import Settings
from irmas_dist.training.augment import AugmentSettings, mix, plan_epoch
from irmas_dist.training.dataset import (
    Resident,
    Standardise,
    WindowSettings,
    covering_windows,
    window_logits,
)
from irmas_dist.training.task import Task

SELECTED_BY = "val_macro_f1"
"""The metric by which epochs and trials are compared: larger is better."""


class TrainingSettings(Settings):
    """Settings of the optimisation."""

    epochs: int = Field(30, ge=1)
    """Most passes over the training clips."""
    batch_size: int = Field(64, ge=1)
    """Examples in a step, over all workers together."""
    windows_per_clip: int = Field(1, ge=1)
    """Examples made from each training clip in an epoch."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam (Kingma and Ba 2015), or with decoupled weight decay (Loshchilov and Hutter 2019)."""
    lr: float = Field(1e-3, gt=0.0)
    """Learning rate, or the highest one of a schedule."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Weight decay."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Constant, or falling to zero over all epochs along half a cosine."""
    warmup_epochs: float = Field(0.5, ge=0.0)
    """Epochs over which the learning rate rises from zero at first."""
    patience: int = Field(10, ge=1)
    """Epochs without a better validation macro F1 after which training stops."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network; auto takes bfloat16 where the device computes in it."""


class LearnerSettings(Settings):
    """All that decides what a Learner does with a task."""

    seed: int = 0
    """Of weights, batches and dropout."""
    window: WindowSettings = WindowSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    thresholds: ThresholdSettings = ThresholdSettings()


class Learner:
    """A network that learns a `Task`, epoch by epoch.

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
        best_weights: The network's weights after it, on the CPU.
        finished: Whether all epochs are done, or patience has run out.
    """

    def __init__(
        self,
        task: Task,
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
        self._standardise = Standardise(task.store.mean, task.store.std).to(self.device)
        self._resident = Resident(task.training, self.device)
        self._judged = Resident(task.validation, self.device)
        kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
        self._optimizer = kind(
            self.network.parameters(), lr=training.lr, weight_decay=training.weight_decay
        )
        examples = len(task.training) * training.windows_per_clip
        self._steps = math.ceil(examples / training.batch_size)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._lr_factor)
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    def run_epoch(self) -> dict[str, float]:
        """Train for one epoch, validate, and remember the weights when they are the best yet."""
        metrics = {**self.train_epoch(), **self.validate(), "epoch": float(self.epoch)}
        if (
            not self.history
            or metrics[SELECTED_BY] > self.history[self.best_epoch - 1][SELECTED_BY]
        ):
            self.best_epoch = self.epoch
            self.best_weights = {
                name: value.detach().cpu().clone()
                for name, value in self.network.state_dict().items()
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
            ``train_loss``, and at a threshold of 0.5 ``train_label_accuracy``,
            ``train_micro_precision`` and ``train_micro_recall``, over all workers' examples.

        Raises:
            IrmasError: The loss is no longer a number.
        """
        # Seeded by epoch, not carried along: an epoch is the same after a resume.
        torch.manual_seed(hash((self.settings.seed, self.epoch, self.rank)) % 2**63)
        plan = plan_epoch(
            self.task.training,
            self.task.store.settings.bands,
            self.frames,
            self.settings.training.windows_per_clip,
            self.settings.augment,
            np.random.default_rng([self.settings.seed, self.epoch]),
        )
        self._parallel.train()
        # Loss, examples, right decisions, true positives, positives said, positives there.
        totals = torch.zeros(6, dtype=torch.float64)
        for step in range(self._steps):
            low, high = (len(plan) * (step + i) // self._steps for i in range(2))
            mine = plan.part(
                *(low + (high - low) * (self.rank + i) // self.workers for i in range(2))
            )
            totals += self._step(*self._examples(mine), examples=high - low)
        if self.workers > 1:
            dist.all_reduce(totals)
        self.epoch += 1
        loss, examples, right, hits, said, there = totals.tolist()
        decisions = examples * len(self.task.store.vocabulary)
        return {
            "train_loss": loss / decisions,
            "train_label_accuracy": right / decisions,
            "train_micro_precision": hits / max(said, 1),
            "train_micro_recall": hits / max(there, 1),
        }

    def _examples(self, plan: Any) -> tuple[Tensor, Tensor]:
        features = self.task.store.settings
        mel, labels = mix(
            self._resident, plan, self.frames, features.log_floor, self._standardise.mean
        )
        return self._standardise(mel), labels

    def _step(self, windows: Tensor, labels: Tensor, examples: int) -> Tensor:
        with self._autocast():
            logits = self._parallel(windows)
        losses = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum")
        # The mean over the whole step's examples, wherever they are: workers' gradients are
        # averaged, so each one's share counts as many times as there are workers.
        loss = losses * (self.workers / (examples * labels.shape[1]))
        if not torch.isfinite(loss):
            raise IrmasError(
                f"the loss became {loss.item()} in epoch {self.epoch + 1}; "
                f"try a learning rate below training.lr={self.settings.training.lr:g}"
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        with torch.no_grad():
            said, there = logits > 0, labels > 0.5
            counts = [losses, len(labels), (said == there).sum(), (said & there).sum()]
            return torch.tensor([*map(float, counts), float(said.sum()), float(there.sum())])

    def validate(self) -> dict[str, float]:
        """Score the validation mixtures.

        Returns:
            ``val_loss`` over windows; ``val_label_accuracy``, ``val_micro_precision`` and
            ``val_micro_recall`` of clips at a threshold of 0.5; with thresholds fitted to the
            mixtures, ``val_macro_f1`` and ``val_micro_f1``; ``val_lrap`` and ``val_map``.
        """
        scores, loss = self.score_validation()
        labels = self.task.validation.labels
        fitted = evaluate(labels, scores, fit_thresholds(labels, scores, self.settings.thresholds))
        halfway = decide(scores, 0.5)
        precision, recall, _ = precision_recall_f1(labels, halfway, "micro")
        return {
            "val_loss": loss,
            "val_label_accuracy": float((halfway == labels).mean()),
            "val_micro_precision": precision,
            "val_micro_recall": recall,
            "val_macro_f1": fitted["macro_f1"],
            "val_micro_f1": fitted["micro_f1"],
            "val_lrap": fitted["lrap"],
            "val_map": fitted["map"],
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
        with self._autocast():
            logits = window_logits(
                self.network,
                self._standardise,
                self._judged,
                windows,
                self.frames,
                features.log_floor,
            )
        labels = torch.from_numpy(clips.labels[windows.clips]).float()
        loss = float(F.binary_cross_entropy_with_logits(logits, labels, reduction="sum"))
        scores = aggregate(
            logits.sigmoid().numpy(), windows.bounds, self.settings.window.aggregation
        )
        shares: list[Any] = [(scores, loss, labels.numel())]
        if self.workers > 1:
            shares = [None] * self.workers
            dist.all_gather_object(shares, (scores, loss, labels.numel()))
        total = sum(share[1] for share in shares) / sum(share[2] for share in shares)
        return np.concatenate([share[0] for share in shares]), total

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a Learner with the same settings needs to go on from here."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "epoch": self.epoch,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was called."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.epoch = state["epoch"]
        self.history = list(state["history"])
        self.best_epoch = state["best_epoch"]
        self.best_weights = state["best_weights"]

    def _lr_factor(self, step: int) -> float:
        warmup = self.settings.training.warmup_epochs * self._steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.settings.training.schedule == "constant":
            return 1.0
        total = self.settings.training.epochs * self._steps
        return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(total - warmup, 1), 1.0)))

    def _autocast(self) -> torch.autocast:
        if self.settings.training.precision == "auto":
            enabled = computes_in_bfloat16(self.device)
        else:
            enabled = self.settings.training.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 is arithmetic of the device's own there.

    A CPU without it emulates it, more than ten times slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

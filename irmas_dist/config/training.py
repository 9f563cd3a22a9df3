"""All settings of training except augmentation.

Apart from the code that they configure, so that reading a recipe does not import torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from irmas_dist.config.augment import AugmentSettings
from irmas_dist.config.base import Settings, describe_error
from irmas_dist.config.decisions import AggregationRule, ThresholdSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.model import ModelSettings
from irmas_dist.errors import UsageError

Precision = Literal["auto", "float32", "bfloat16"]


class WindowSettings(Settings):
    """The network's input windows, and how their scores are aggregated over a clip."""

    seconds: float = Field(1.5, gt=0.0)
    """Length of a window."""
    hop_seconds: float = Field(0.75, gt=0.0)
    """Distance of consecutive windows when a whole clip is scored."""
    aggregation: AggregationRule = "mean"
    """How the scores of a clip's windows are aggregated."""

    def frames(self, features: LogMelSettings) -> int:
        """Return the whole frames in a window, at least one."""
        return _whole_frames(self.seconds, features)

    def hop_frames(self, features: LogMelSettings) -> int:
        """Return the frames from one window to the next, at least one."""
        return _whole_frames(self.hop_seconds, features)


def _whole_frames(seconds: float, features: LogMelSettings) -> int:
    # Rounded first: 2.3 s at 100 frames a second are 229.99999999999997 in floating point.
    return max(int(round(seconds * features.frames_per_second, 6)), 1)


class LossSettings(Settings):
    """The loss that training minimises."""

    kind: Literal["bce", "focal", "asymmetric"] = "bce"
    """Binary cross-entropy, focal (Lin et al. 2017) or asymmetric loss (Ridnik et al. 2021)."""
    balance: float = Field(0.0, ge=0.0, le=1.0)
    """Compensation for rare instruments: positive labels are weighted by the ratio of negatives to
    positives in the training clips, raised to this power; 0 weighs all labels alike."""
    smoothing: float = Field(0.15, ge=0.0, lt=1.0)
    """Label smoothing, from 0 and 1 towards a half (Szegedy et al. 2016)."""
    gamma: float = Field(2.0, ge=0.0, le=10.0)
    """Exponent of the focal loss."""
    gamma_positive: float = Field(0.0, ge=0.0, le=10.0)
    """Exponent of the asymmetric loss for positive labels."""
    gamma_negative: float = Field(4.0, ge=0.0, le=10.0)
    """Exponent of the asymmetric loss for negative labels."""
    margin: float = Field(0.05, ge=0.0, lt=1.0)
    """Score below which the asymmetric loss disregards negative labels."""


NOTHING_TO_KEEP = "training.freeze keeps weights of a model to start from: give --init"


class FreezeSettings(Settings):
    """Blocks that keep the weights and statistics of the model that training starts from."""

    blocks: int = Field(0, ge=0)
    """Number of blocks, from the first."""
    epochs: int = Field(0, ge=0)
    """First epochs in which they are kept."""

    @model_validator(mode="after")
    def _are_both_given(self) -> "FreezeSettings":
        if bool(self.blocks) != bool(self.epochs):
            raise ValueError(
                f"blocks is {self.blocks} and epochs is {self.epochs}; give both, or neither"
            )
        return self


class TrainingSettings(Settings):
    """Settings of the optimisation."""

    epochs: int = Field(80, ge=1)
    """Maximum number of passes over the training clips."""
    batch_size: int = Field(64, ge=1)
    """Examples in a step, over all workers together."""
    accumulate: int = Field(1, ge=1)
    """Parts in which each worker computes its share of a step, in turn, to save memory."""
    windows_per_clip: int = Field(1, ge=1)
    """Examples per training clip and epoch."""
    loss: LossSettings = LossSettings()
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam (Kingma and Ba 2015), or with decoupled weight decay (Loshchilov and Hutter 2019)."""
    lr: float = Field(3e-3, gt=0.0)
    """Learning rate, or the highest of a schedule."""
    head_lr: float | None = Field(None, gt=0.0)
    """Learning rate of the layers after the last block, which follows the same schedule; none: the
    same."""
    freeze: FreezeSettings = FreezeSettings()
    """Blocks that are not trained at first, when training starts from a model."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Weight decay; biases and normalisation are exempt."""
    clip_norm: float | None = Field(None, gt=0.0)
    """Norm to which larger gradients are scaled down (Pascanu et al. 2013); none leaves them."""
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    """Constant; half a cosine that falls to zero over all epochs; or lowered whenever validation
    macro F1 stops rising."""
    warmup_epochs: float = Field(0.5, ge=0.0)
    """First epochs, over which the learning rate rises from zero."""
    plateau_epochs: int = Field(3, ge=1)
    """Epochs without a better validation macro F1 after which the plateau schedule lowers the
    learning rate."""
    plateau_factor: float = Field(0.3, gt=0.0, lt=1.0)
    """Factor by which the plateau schedule lowers the learning rate."""
    ema: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay of an exponential moving average of the weights, lower during the first steps; the
    averaged weights are validated and saved. 0 averages nothing."""
    patience: int = Field(40, ge=1)
    """Epochs without a better validation macro F1 after which training stops."""
    on_nan: Literal["stop", "skip"] = "stop"
    """What to do in a step whose gradients are not finite: stop training, or skip the step."""
    precision: Precision = "auto"
    """Arithmetic of the network; auto takes bfloat16 where the device supports it."""
    graph: Literal["auto", "on", "off"] = "auto"
    """Whether to capture training steps as CUDA graphs, several times as fast at small batches:
    auto does it on a GPU with one worker, without compile and with clips in the GPU's memory."""
    compile: bool = False
    """Whether to compile the network with torch.compile: takes some minutes, then is faster."""

    def ends_after(self, epoch: int, best_epoch: int) -> bool:
        """Return whether an epoch is the last, as of all or as patience with the best one ends."""
        return epoch >= self.epochs or epoch - best_epoch >= self.patience


class LearnerSettings(Settings):
    """All settings of a Learner."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of weights, batches and dropout."""
    window: WindowSettings = WindowSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    thresholds: ThresholdSettings = ThresholdSettings()

    @model_validator(mode="after")
    def _freeze_what_there_is(self) -> "LearnerSettings":
        if self.training.freeze.blocks > self.model.blocks:
            raise ValueError(
                f"training.freeze.blocks={self.training.freeze.blocks} is more than "
                f"model.blocks={self.model.blocks}"
            )
        return self


class IngestSettings(Settings):
    """How training clips reach the device."""

    mode: Literal["auto", "resident", "streaming"] = "auto"
    """auto holds them in memory where they take at most half of Ray's object store."""
    pool_clips: int = Field(4_096, ge=1)
    """Clips that are mixed with each other when streaming, where further stores are not small
    beside the first; each worker holds these and, while it learns them, reads as many."""


class FurtherStore(Settings):
    """A feature store whose clips are learnt beside those of the first."""

    location: str = Field(min_length=1)
    """Path or URL."""
    weight: float = Field(1.0, gt=0.0, le=1_000.0)
    """Examples that begin with one of its clips, for each that begins with one of the first
    store's."""

    @classmethod
    def parse(cls, text: str) -> "FurtherStore":
        """Return what ``STORE`` or ``STORE:WEIGHT`` says.

        Raises:
            UsageError: The store is missing, the weight out of range, or both may be meant.
        """
        location, weight = split_weight(text)
        if weight is not None and location and Path(location).exists() and Path(text).exists():
            raise UsageError(
                f"--also {text}: {text} and {location} both exist: write {text}:1 for {text}, or "
                f"{location}/:{weight:g} for {location} with weight {weight:g}"
            )
        try:
            return cls(location=location, **({} if weight is None else {"weight": weight}))
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(f"--also {text}: {first['loc'][0]} {describe_error(first)}") from error


def split_weight(text: str) -> tuple[str, float | None]:
    """Return store and weight of ``STORE:WEIGHT``, or all of it and None without a number."""
    location, colon, weight = text.rpartition(":")
    try:
        return (location, float(weight)) if colon else (text, None)
    except ValueError:  # Of a URL, such as s3://bucket/store.
        return text, None


class WorkerSettings(Settings):
    """Workers of a distributed training."""

    count: int = Field(1, ge=1)
    """Data-parallel workers."""
    min_workers: int | None = Field(None, ge=1)
    """Number of workers with which training starts, or continues after a loss, while resources for
    all are missing; workers are added when nodes join. None waits for all."""
    cpus: float = Field(1.0, gt=0.0, le=10_000)
    """CPUs of each worker, and its number of threads."""
    gpu: bool | None = None
    """Whether each worker has a GPU; None: if there are enough of them."""
    retries: int = Field(3, ge=0)
    """How often training resumes from its last checkpoint after losing a worker or node."""
    wait_timeout_s: float | None = Field(30.0, ge=0.0)
    """How long to wait for resources of the cluster; None waits for ever. An autoscaler may need
    minutes."""
    checkpoints_to_keep: int = Field(2, ge=1)
    """Checkpoints kept during training: the last ones, as the very last may be damaged."""

    @property
    def needed(self) -> int:
        """Workers without which training does not start."""
        return self.count if self.min_workers is None else self.min_workers

    @property
    def resources(self) -> dict[str, float]:
        """Resources of one worker, by Ray's names."""
        return {"CPU": self.cpus, **({"GPU": 1.0} if self.gpu else {})}


def require_capturable(settings: "TrainingSettings", workers: int) -> None:
    """Refuse to capture steps as CUDA graphs where it is known at once that they cannot be.

    Raises:
        UsageError: ``settings.graph`` is "on", with several workers or a compiled network.
    """
    if settings.graph != "on":
        return
    needs = {"one worker": workers == 1, "training.compile=false": not settings.compile}
    if missing := [need for need, is_met in needs.items() if not is_met]:
        raise UsageError(graph_needs(missing))


def graph_needs(missing: Sequence[str]) -> str:
    """Return what is lacking for CUDA graphs, and what to do."""
    return (
        f"training.graph=on needs {' and '.join(missing)}; training.graph=auto captures steps "
        "where that is possible"
    )


def require_examples(workers: int, batch_size: int) -> None:
    """Refuse more workers than a step has examples.

    Raises:
        UsageError: There are more.
    """
    if workers > batch_size:
        raise UsageError(f"--workers {workers}: training.batch_size={batch_size} has no example "
                         "for some of them")  # fmt: skip

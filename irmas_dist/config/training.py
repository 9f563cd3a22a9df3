"""All settings of training but those of augmentation.

Apart from what they are settings of, so that a recipe can be read without waiting for torch.
"""

from typing import Literal

from pydantic import Field

from irmas_dist.config.augment import AugmentSettings
from irmas_dist.config.base import Settings
from irmas_dist.config.decisions import AggregationRule, ThresholdSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.model import ModelSettings

Precision = Literal["auto", "float32", "bfloat16"]


class WindowSettings(Settings):
    """The windows that the network sees, and how a clip's score comes from theirs."""

    seconds: float = Field(1.5, gt=0.0)
    """Length of a window."""
    hop_seconds: float = Field(0.75, gt=0.0)
    """From one window to the next when a whole clip is scored."""
    aggregation: AggregationRule = "mean"
    """How the scores of a clip's windows become the clip's."""

    def frames(self, features: LogMelSettings) -> int:
        """Whole frames in a window, at least one."""
        return max(int(self.seconds * features.frames_per_second), 1)

    def hop_frames(self, features: LogMelSettings) -> int:
        """Frames from one window to the next, at least one."""
        return max(int(self.hop_seconds * features.frames_per_second), 1)


class LossSettings(Settings):
    """What training makes small."""

    kind: Literal["bce", "focal", "asymmetric"] = "bce"
    """Binary cross-entropy, focal (Lin et al. 2017) or asymmetric loss (Ridnik et al. 2021)."""
    balance: float = Field(0.0, ge=0.0, le=1.0)
    """How far rare instruments are made up for: positive labels weigh as much as the training
    clips have negatives to a positive, raised to this power; 0 weighs all labels alike."""
    smoothing: float = Field(0.15, ge=0.0, lt=1.0)
    """How far labels are drawn from 0 and 1 towards a half (Szegedy et al. 2016)."""
    gamma: float = Field(2.0, ge=0.0, le=10.0)
    """Exponent of the focal loss."""
    gamma_positive: float = Field(0.0, ge=0.0, le=10.0)
    """Exponent of the asymmetric loss for positive labels."""
    gamma_negative: float = Field(4.0, ge=0.0, le=10.0)
    """Exponent of the asymmetric loss for negative labels."""
    margin: float = Field(0.05, ge=0.0, lt=1.0)
    """Score below which the asymmetric loss disregards negative labels."""


class TrainingSettings(Settings):
    """Settings of the optimisation."""

    epochs: int = Field(60, ge=1)
    """Most passes over the training clips."""
    batch_size: int = Field(64, ge=1)
    """Examples in a step, over all workers together."""
    accumulate: int = Field(1, ge=1)
    """Parts in which each worker computes its share of a step, one by one, to save memory."""
    windows_per_clip: int = Field(1, ge=1)
    """Examples made from each training clip in an epoch."""
    loss: LossSettings = LossSettings()
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam (Kingma and Ba 2015), or with decoupled weight decay (Loshchilov and Hutter 2019)."""
    lr: float = Field(3e-3, gt=0.0)
    """Learning rate, or the highest one of a schedule."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Weight decay, from which biases and normalisation are spared."""
    clip_norm: float | None = Field(None, gt=0.0)
    """Norm to which larger gradients are scaled down (Pascanu et al. 2013); none leaves them."""
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    """Constant; falling to zero over all epochs along half a cosine; or lowered whenever
    validation macro F1 no longer rises."""
    warmup_epochs: float = Field(0.5, ge=0.0)
    """Epochs over which the learning rate rises from zero at first."""
    plateau_epochs: int = Field(3, ge=1)
    """Epochs without a better validation macro F1 after which the plateau schedule lowers the
    learning rate."""
    plateau_factor: float = Field(0.3, gt=0.0, lt=1.0)
    """What it is multiplied by then."""
    ema: float = Field(0.0, ge=0.0, lt=1.0)
    """Share that an exponential moving average of the weights keeps of itself in a step, less
    during the first steps; validated and kept are the averaged weights. 0 averages nothing."""
    patience: int = Field(10, ge=1)
    """Epochs without a better validation macro F1 after which training stops."""
    on_nan: Literal["stop", "skip"] = "stop"
    """What to do about a step whose gradients are not finite: stop, or leave the step out."""
    precision: Precision = "auto"
    """Arithmetic of the network; auto takes bfloat16 where the device computes in it."""
    compile: bool = False
    """Whether to translate the network with torch.compile: some minutes at first, faster then."""


class LearnerSettings(Settings):
    """All that decides what a Learner does with a task."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Of weights, batches and dropout."""
    window: WindowSettings = WindowSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    thresholds: ThresholdSettings = ThresholdSettings()


class IngestSettings(Settings):
    """How training clips reach the device."""

    mode: Literal["auto", "resident", "streaming"] = "auto"
    """auto holds them in memory where they take no more than half of Ray's object store."""
    pool_clips: int = Field(4_096, ge=1)
    """Most clips in memory at a time when streaming; only these are mixed with each other."""


class WorkerSettings(Settings):
    """How training is spread."""

    count: int = Field(1, ge=1)
    """Data-parallel workers."""
    min_workers: int | None = Field(None, ge=1)
    """With how many workers training starts and goes on while the nodes have no room for all;
    it grows back when nodes join. None waits for all."""
    cpus: float = Field(1.0, gt=0.0)
    """CPUs of each worker; as many threads compute in it."""
    gpu: bool = False
    """Whether each worker has a GPU."""
    retries: int = Field(3, ge=0)
    """How often training goes on from its last checkpoint after a worker or node was lost."""
    wait_timeout_s: float = Field(30.0, ge=0.0)
    """How long to wait for room in the cluster. One that grows by itself may need minutes."""
    checkpoints_to_keep: int = Field(2, ge=1)
    """Checkpoints that are kept while training: the best ones, and the last in any case."""

    @property
    def needed(self) -> int:
        """Workers without which training does not start."""
        return self.count if self.min_workers is None else self.min_workers

    @property
    def resources(self) -> dict[str, float]:
        """What one worker takes, as Ray names it."""
        return {"CPU": self.cpus, **({"GPU": 1.0} if self.gpu else {})}

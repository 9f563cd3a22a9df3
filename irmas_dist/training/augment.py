"""What makes a training batch: crops, mixtures of several clips, levels and masks.

Training clips of IRMAS carry one label, test excerpts up to five. Power spectra of independent
sources add, so adding mel power of several clips makes the multilabel examples that the
training set lacks. Everything random is drawn ahead, for the whole epoch and whatever the number
of workers, as a `Mixtures` plan of plain arrays; devices only carry it out.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator
from torch import Tensor

from irmas_dist.features.store import Clips
from irmas_dist.settings import Settings
from irmas_dist.training.dataset import Resident

DECIBEL = np.log(10) / 10
"""One decibel of power as a natural logarithm."""


class MixSettings(Settings):
    """How several clips become one multilabel example."""

    counts: tuple[float, ...] = Field((1_236, 1_278, 318, 39, 3), min_length=1)
    """Relative frequency of examples with 1, 2, 3, … clips; the default is that of the labels in
    the IRMAS test excerpts. A single entry turns mixing off."""
    level_db: float = Field(8.0, ge=0.0, le=60.0)
    """Each clip of a mixture is turned down by a random level of up to this much."""

    @field_validator("counts")
    @classmethod
    def _are_weights(cls, counts: tuple[float, ...]) -> tuple[float, ...]:
        if min(counts) < 0 or sum(counts) <= 0:
            raise ValueError("the frequencies must not be negative, and not all of them 0")
        return counts


class AugmentSettings(Settings):
    """Random changes to training examples."""

    mix: MixSettings = MixSettings()
    gain_db: float = Field(6.0, ge=0.0, le=60.0)
    """Every example is turned up or down by a random level of up to this much."""
    frequency_mask: int = Field(0, ge=0)
    """Widest run of mel bands that is blanked out in an example (SpecAugment, Park et al. 2019)."""
    time_mask: int = Field(0, ge=0)
    """Longest run of frames that is blanked out in an example (ibid.)."""


@dataclass(frozen=True)
class Mixtures:
    """Which windows are added, at which levels, to make which examples.

    Attributes:
        first: Where each example's sources begin, and the total at the end: (examples + 1,).
        clips: Index of the clip of each source, shape (sources,).
        offsets: First frame of each source's window within its clip, shape (sources,).
        levels: Level of each source, natural logarithm of power, shape (sources,).
        masks: First and past-the-last masked band and frame of each example, (examples, 4).
    """

    first: npt.NDArray[np.int64]
    clips: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    levels: npt.NDArray[np.float32]
    masks: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first) - 1

    def part(self, low: int, high: int) -> "Mixtures":
        """Return examples ``low`` up to but not including ``high``."""
        first = self.first[low : high + 1]
        sources = slice(first[0], first[-1])
        return Mixtures(
            first=first - first[0],
            clips=self.clips[sources],
            offsets=self.offsets[sources],
            levels=self.levels[sources],
            masks=self.masks[low:high],
        )


def plan_epoch(
    clips: Clips,
    bands: int,
    frames: int,
    windows_per_clip: int,
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> Mixtures:
    """Draw the training examples of one epoch, in random order.

    Every clip is the first source of ``windows_per_clip`` examples; further sources are clips
    of instruments that the example does not have yet, as far as a few draws find them.
    """
    lead = rng.permutation(np.tile(np.arange(len(clips)), windows_per_clip))
    return _plan(clips, lead, bands, frames, settings, rng)


def _plan(
    clips: Clips,
    lead: npt.NDArray[np.int64],
    bands: int,
    frames: int,
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> Mixtures:
    examples = len(lead)
    most = len(settings.mix.counts)
    weights = np.asarray(settings.mix.counts) / sum(settings.mix.counts)
    count = rng.choice(most, size=examples, p=weights) + 1
    sources = np.empty((examples, most), np.int64)
    sources[:, 0] = lead
    heard = clips.labels[lead].astype(bool)
    for place in range(1, most):
        drawn = rng.integers(len(clips), size=examples)
        for _ in range(4):
            again = np.flatnonzero((clips.labels[drawn] & heard).any(axis=1))
            drawn[again] = rng.integers(len(clips), size=len(again))
        sources[:, place] = drawn
        heard |= clips.labels[drawn].astype(bool) & (place < count)[:, None]
    used = np.arange(most) < count[:, None]
    flat = sources[used]
    room = np.maximum(clips.lengths[flat] - frames, 0)
    level = rng.uniform(-settings.mix.level_db, 0.0, size=(examples, most))
    level[:, 0] *= most > 1  # with mixing off, only gain_db changes levels
    level += rng.uniform(-settings.gain_db, settings.gain_db, size=(examples, 1))
    return Mixtures(
        first=np.concatenate([[0], np.cumsum(count)]),
        clips=flat,
        offsets=(rng.random(len(flat)) * (room + 1)).astype(np.int64),
        levels=(level[used] * DECIBEL).astype(np.float32),
        masks=np.concatenate(
            [
                _spans(examples, bands, settings.frequency_mask, rng),
                _spans(examples, frames, settings.time_mask, rng),
            ],
            axis=1,
        ),
    )


def mix(
    resident: Resident, plan: Mixtures, frames: int, log_floor: float, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """Carry a plan out on the device.

    Args:
        resident: Clips on the device.
        plan: The examples.
        frames: Length of an example.
        log_floor: Smallest value of a log-mel; what lies past the end of a clip adds nothing.
        mean: Per-band mean, shape (bands,): what masked places are filled with.

    Returns:
        Log-mel examples, float32, shape (examples, frames, bands), and their labels, the union
        of their sources', float32, shape (examples, instruments).
    """
    device = resident.device
    clips = torch.from_numpy(plan.clips).to(device)
    example = torch.from_numpy(np.repeat(np.arange(len(plan)), np.diff(plan.first))).to(device)
    mel, inside = resident.windows(clips, torch.from_numpy(plan.offsets).to(device), frames)
    mel += torch.from_numpy(plan.levels).to(device)[:, None, None]
    power = mel.exp_() * inside[:, :, None]
    mixed = torch.zeros(len(plan), *power.shape[1:], device=device).index_add_(0, example, power)
    mixed = mixed.clamp_(min=float(np.exp(log_floor))).log_()
    labels = torch.zeros(len(plan), resident.labels.shape[1], device=device)
    labels = labels.index_add_(0, example, resident.labels[clips]).clamp_(max=1.0)
    masks = torch.from_numpy(plan.masks).to(device)
    if plan.masks.any():
        band = torch.arange(mixed.shape[2], device=device)
        frame = torch.arange(frames, device=device)
        masked = ((band >= masks[:, 0:1]) & (band < masks[:, 1:2]))[:, None, :]
        masked = masked | ((frame >= masks[:, 2:3]) & (frame < masks[:, 3:4]))[:, :, None]
        mixed = torch.where(masked, mean, mixed)
    return mixed, labels


def mixture_clips(
    clips: Clips, examples: int, settings: MixSettings, log_floor: float, seed: int
) -> Clips:
    """Make whole multilabel clips out of single-label ones, for validation.

    Args:
        clips: Held-out clips; each is the first source of equally many examples.
        examples: How many to make.
        settings: How many clips go into one, and at which levels.
        log_floor: Smallest value of a log-mel.
        seed: The same seed makes the same clips.

    Returns:
        Clips of their own array of frames, each as long as its first source.
    """
    rng = np.random.default_rng(seed)
    lead = np.resize(rng.permutation(len(clips)), examples)
    levels_only = AugmentSettings(mix=settings, gain_db=0.0)
    # A window of the longest clip's length makes every source begin where its clip begins.
    longest = int(clips.lengths.max())
    bands = clips.frames.shape[1]
    plan = _plan(clips, lead, bands, longest, levels_only, rng)
    resident = Resident(clips, torch.device("cpu"))
    nothing = torch.zeros(bands)
    made: list[npt.NDArray[np.float16]] = []
    labels: list[npt.NDArray[np.uint8]] = []
    for index in range(examples):
        length = int(clips.lengths[lead[index]])
        mel, label = mix(resident, plan.part(index, index + 1), length, log_floor, nothing)
        made.append(mel[0].to(torch.float16).numpy())
        labels.append(label[0].to(torch.uint8).numpy())
    lengths = np.array([len(mel) for mel in made], np.int64)
    return Clips(
        frames=np.concatenate(made),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        labels=np.stack(labels),
        clip_ids=[f"mixture {index + 1}" for index in range(examples)],
        parts=["validation"] * examples,
        groups=[clips.groups[index] for index in lead],
    )


def _spans(
    examples: int, size: int, widest: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Random spans of up to ``widest`` within ``size``: first and past-the-last, (examples, 2)."""
    width = rng.integers(0, min(widest, size) + 1, size=examples)
    low = (rng.random(examples) * (size - width + 1)).astype(np.int64)
    return np.stack([low, low + width], axis=1)

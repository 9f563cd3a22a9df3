"""Validation mixtures: multilabel clips mixed from held-out single-label clips."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from irmas_dist.config.augment import AugmentSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.groups import group_in_fold, split_fold
from irmas_dist.corpus.split import k_folds
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips, joined
from irmas_dist.instruments import PRESENT
from irmas_dist.training.augment import Mixer
from irmas_dist.training.sampling import Mixtures, plan_mixtures
from irmas_dist.training.steps import Changes, on_device
from irmas_dist.training.windows import DeviceClips

FOLDS = 5
"""Number of folds into which clips are dealt before they are mixed."""

BATCH = 32
"""Most mixtures that are made at a time."""

FRAMES_AT_A_TIME = 1 << 19
"""Frames of mixtures, some 100 MB, after which those made so far are handed on."""


def mixture_clips(
    clips: Clips, examples: int, settings: AugmentSettings, features: LogMelSettings, seed: int
) -> Clips:
    """Mix whole single-label clips to multilabel clips, for validation.

    Groups are dealt into `FOLDS` folds, and the clips of a mixture come from one fold: thresholds
    fitted to the mixtures of some folds can be evaluated on those of another, which share no
    recording with them. With too few groups for that, all clips are mixed with each other.

    Args:
        clips: Held-out clips; each is the first source of equally many mixtures.
        examples: Number of mixtures.
        settings: How clips are mixed; equalised and shifted in pitch are those of every second
            mixture.
        features: Settings of the log-mels.
        seed: The same seed gives the same mixtures.

    Returns:
        Clips with their own array of frames, each as long as its first source. The group of
        each is that of its first source, prefixed with the fold; see `folds_of`.
    """
    return joined(list(mixtures_in_parts(clips, examples, settings, features, seed)))


def mixtures_in_parts(
    clips: Clips, examples: int, settings: AugmentSettings, features: LogMelSettings, seed: int
) -> Iterator[Clips]:
    """Yield the clips of `mixture_clips` in parts that fit into memory, however long they are."""
    resident = DeviceClips(clips, torch.device("cpu"))
    mixer = Mixer(features, torch.zeros(features.bands), torch.device("cpu"))
    made: list[Clips] = []
    count = waiting = 0
    for fold, lead, plan in _plan_validation(clips, examples, settings, features, seed):
        for low, high, frames in _batches(clips.lengths[lead]):
            part = plan.part(low, high)
            changes = Changes.of(part, clips.lengths, frames)
            mel, labels = mixer(resident, on_device(part, changes, resident.device), frames)
            size = high - low
            made.append(
                Clips(
                    frames=mel.to(torch.float16).flatten(0, 1).numpy(),
                    starts=np.arange(size) * frames,
                    lengths=np.full(size, frames),
                    labels=labels.numpy(),
                    clip_ids=[f"mixture {count + index + 1}" for index in range(size)],
                    parts=["validation"] * size,
                    groups=[group_in_fold(clips.groups[first], fold) for first in lead[low:high]],
                )
            )
            count += size
            waiting += size * frames
            if waiting >= FRAMES_AT_A_TIME:
                yield joined(made)
                made, waiting = [], 0
    if made:
        yield joined(made)


def _batches(lengths: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield bounds and length of consecutive mixtures of one length, at most `BATCH` at a time."""
    ends = [*np.flatnonzero(np.diff(lengths)) + 1, len(lengths)]
    for first, last in itertools.pairwise([0, *ends]):
        for low in range(first, last, BATCH):
            yield low, min(low + BATCH, last), int(lengths[low])


def equally_frequent(labels: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return indices of clips, repeated so that instruments occur about equally often.

    Args:
        labels: Of the clips, from 0 to 1, NaN where unknown, shape (clips, instruments).
    """
    plays = labels >= PRESENT
    most = int(plays.sum(axis=0).max(initial=0))
    repeated = [np.resize(np.flatnonzero(of_one), most) for of_one in plays.T if of_one.any()]
    return np.concatenate([np.flatnonzero(~plays.any(axis=1)), *repeated])


def mixed_clips(
    clips: Clips, examples: int, settings: AugmentSettings, features: LogMelSettings, seed: int
) -> npt.NDArray[np.int64]:
    """Return the sorted indices of the clips that `mixture_clips` uses.

    The arguments are the same; the clips' frames are not read.
    """
    plans = _plan_validation(clips, examples, settings, features, seed)
    return np.unique(np.concatenate([plan.clips for _, _, plan in plans]))


def folds_of(groups: Sequence[str]) -> npt.NDArray[np.int64] | None:
    """Return the fold of each mixture from its group, shape (mixtures,); None without folds."""
    folds = np.array([split_fold(group)[0] for group in groups], np.int64)
    return folds if folds.all() else None


def _plan_validation(
    clips: Clips, examples: int, settings: AugmentSettings, features: LogMelSettings, seed: int
) -> Iterator[tuple[int, npt.NDArray[np.int64], Mixtures]]:
    """Yield each fold from 1, or 0 without folds, the first sources and plan of its mixtures."""
    rng = np.random.default_rng(seed)
    lead = np.resize(rng.permutation(len(clips)), examples)
    # With windows of the longest clip's length every source starts at its clip's first frame.
    longest = int(clips.lengths.max())
    try:
        folds = k_folds(clips.groups, clips.labels >= PRESENT, FOLDS, seed) + 1
    except IrmasError:  # An instrument has fewer groups than there are folds.
        folds = np.zeros(len(clips), np.int64)
    for fold in np.unique(folds[lead]):
        members = np.flatnonzero(folds == fold)
        first = lead[folds[lead] == fold]
        plan = plan_mixtures(
            clips.select(members), np.searchsorted(members, first), features.bands, longest,
            settings, rng,
        )  # fmt: skip
        plain = np.repeat(np.arange(len(first)) % 2 == 0, np.diff(plan.first))
        yield (
            int(fold),
            first,
            dataclasses.replace(
                plan,
                clips=members[plan.clips],
                curves=np.where(plain[:, None], np.float32(0), plan.curves),
                pitches=np.where(plain, np.float32(1), plan.pitches),
            ),
        )

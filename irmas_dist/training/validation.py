"""What every epoch is judged by: multilabel clips that are mixed from the held-out ones."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from irmas_dist.config.augment import MixSettings
from irmas_dist.corpus.split import k_folds
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips
from irmas_dist.features.logmel import LogMelSettings
from irmas_dist.training.augment import Mixer
from irmas_dist.training.sampling import Mixtures, mixing_alone, plan_mixtures
from irmas_dist.training.windows import DeviceClips

FOLDS = 5
"""Folds that the clips are dealt to before they are mixed."""


def mixture_clips(
    clips: Clips, examples: int, settings: MixSettings, features: LogMelSettings, seed: int
) -> Clips:
    """Make whole multilabel clips out of single-label ones, for validation.

    The clips are dealt to `FOLDS` folds, groups whole, and those of one mixture are of one fold:
    what is fitted to the mixtures of some folds can be judged by those of another, which share
    no recording with them. Where there are too few groups for that, all clips are mixed.

    Args:
        clips: Held-out clips; each is the first source of equally many examples.
        examples: How many to make.
        settings: How many clips go into one, and at which levels.
        features: How the log-mels were made.
        seed: The same seed makes the same clips.

    Returns:
        Clips of their own array of frames, each as long as its first source. The group of each
        is its first source's, after the fold; see `folds_of`.
    """
    resident = DeviceClips(clips, torch.device("cpu"))
    mixer = Mixer(features, torch.zeros(features.bands), torch.device("cpu"))
    made: list[npt.NDArray[np.float16]] = []
    labels: list[npt.NDArray[np.uint8]] = []
    groups: list[str] = []
    for fold, lead, plan in _plan_validation(clips, examples, settings, features, seed):
        for index, first in enumerate(lead):
            mel, label = mixer(resident, plan.part(index, index + 1), int(clips.lengths[first]))
            made.append(mel[0].to(torch.float16).numpy())
            labels.append(label[0].to(torch.uint8).numpy())
            groups.append(f"fold {fold}: {clips.groups[first]}" if fold else clips.groups[first])
    lengths = np.array([len(mel) for mel in made], np.int64)
    return Clips(
        frames=np.concatenate(made),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        labels=np.stack(labels),
        clip_ids=[f"mixture {index + 1}" for index in range(examples)],
        parts=["validation"] * examples,
        groups=groups,
    )


def mixed_clips(
    clips: Clips, examples: int, settings: MixSettings, features: LogMelSettings, seed: int
) -> npt.NDArray[np.int64]:
    """Return the indices of the clips that `mixture_clips` would use, in order.

    The arguments are the same, but that the clips' frames are not looked at.
    """
    plans = _plan_validation(clips, examples, settings, features, seed)
    return np.unique(np.concatenate([plan.clips for _, _, plan in plans]))


def folds_of(groups: Sequence[str]) -> npt.NDArray[np.int64] | None:
    """Return the folds of mixtures by their groups, shape (mixtures,); None if not dealt to any."""
    found = [re.match(r"fold (\d+): ", group) for group in groups]
    if not all(found):
        return None
    return np.array([int(match[1]) for match in found if match], np.int64)


def _plan_validation(
    clips: Clips, examples: int, settings: MixSettings, features: LogMelSettings, seed: int
) -> Iterator[tuple[int, npt.NDArray[np.int64], Mixtures]]:
    """Each fold from 1, or 0 without folds; the first sources of its mixtures; the mixtures."""
    rng = np.random.default_rng(seed)
    lead = np.resize(rng.permutation(len(clips)), examples)
    # A window of the longest clip's length makes every source begin where its clip begins.
    longest = int(clips.lengths.max())
    try:
        folds = k_folds(clips.groups, clips.labels, FOLDS, seed) + 1
    except IrmasError:  # An instrument has fewer groups than there are folds.
        folds = np.zeros(len(clips), np.int64)
    for fold in np.unique(folds[lead]):
        here = np.flatnonzero(folds == fold)
        mine = lead[folds[lead] == fold]
        plan = plan_mixtures(
            clips.select(here), np.searchsorted(here, mine), features.bands, longest,
            mixing_alone(settings), rng,
        )  # fmt: skip
        yield int(fold), mine, dataclasses.replace(plan, clips=here[plan.clips])

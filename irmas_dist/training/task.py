"""What is to be learned and from what: held once per node, shared by all who train there."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from irmas_dist.corpus.manifest import TRAINING
from irmas_dist.corpus.split import SplitSettings, held_out
from irmas_dist.errors import IrmasError
from irmas_dist.features.store import Clips, StoreInfo, read_clips, read_info
from irmas_dist.training.augment import MixSettings
from irmas_dist.training.mixing import mixture_clips


class ValidationSettings(SplitSettings):
    """Settings of validation: which groups are held out, and what is made of them."""

    mixtures: int = Field(500, ge=1)
    """Multilabel clips that are mixed from the held-out ones, on which checkpoints are
    selected and thresholds fitted."""
    mix: MixSettings = MixSettings()
    """How they are mixed; apart from the mixing of training examples, so that every trial of
    a search is judged by the same clips."""


@dataclass(frozen=True)
class Task:
    """Clips to learn from, clips to be judged by, and what is known of both.

    Attributes:
        training: Training clips without the held-out groups.
        validation: Mixtures of clips from the held-out groups.
        store: What ``features.json`` says.
    """

    training: Clips
    validation: Clips
    store: StoreInfo


def load_task(location: str, settings: ValidationSettings) -> Task:
    """Read the training part of a feature store and split it.

    Raises:
        IrmasError: The store is not finished, or too small to be split.
    """
    info = read_info(location)
    clips = read_clips(location, TRAINING)
    try:
        out = held_out(clips.groups, clips.labels, settings, info.vocabulary)
    except IrmasError as error:
        raise IrmasError(f"{location} cannot be split for validation: {error}") from error
    aside = clips.select(np.flatnonzero(out))
    return Task(
        training=clips.select(np.flatnonzero(~out)),
        validation=mixture_clips(
            aside, settings.mixtures, settings.mix, info.settings, settings.seed
        ),
        store=info,
    )

"""Validation clips are set aside: those of stores of their own, of the store, or a share of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from irmas_dist.config.corpus import ValidationSettings
from irmas_dist.corpus.manifest import VALIDATION
from irmas_dist.corpus.split import held_out
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips, read_clips
from irmas_dist.features.store import StoreInfo
from irmas_dist.instruments import PRESENT, Vocabulary
from irmas_dist.terminal import say
from irmas_dist.training.held_out import HeldOut, new_clips, sources_of
from irmas_dist.training.stores import ValidationStore, read_validation, require_positives


class SetAside(NamedTuple):
    """Training clips of a store, and the clips that are validated on.

    Attributes:
        training: Training clips of the store that share nothing with validation.
        validation: Clips to validate on, as they are.
        out: What no clip to learn may share with these.
        stores: The stores of these, if they come from stores of their own.
    """

    training: Clips
    validation: Clips
    out: HeldOut
    stores: tuple[ValidationStore, ...] = ()


def beside_stores(
    clips: Clips,
    location: str,
    info: StoreInfo,
    validate_on: Sequence[str],
    judges: Sequence[StoreInfo],
) -> SetAside:
    """Return the training clips of a store, and the clips of stores to validate on.

    Args:
        clips: Its training clips.
        location: Of the store.
        info: Of the store.
        validate_on: Locations of the stores to validate on, at least one.
        judges: Of these stores.

    Raises:
        IrmasError: None is left to learn; see `require_positives`.
    """
    aside, out, stores = read_validation(validate_on, judges, info.vocabulary)
    own = new_clips(clips, location, info, out)
    _tell_lacking(aside, " and ".join(validate_on), info.vocabulary)
    return SetAside(own, aside, out, stores)


def divided(clips: Clips, location: str, info: StoreInfo, settings: ValidationSettings) -> SetAside:
    """Return the training clips of a store, and its validation clips or else a share of them.

    Args:
        clips: Its training clips.
        location: Of the store.
        info: Of the store.
        settings: How they are split.

    Raises:
        IrmasError: They cannot be split so, or none is left to learn; see `require_positives`.
    """
    if VALIDATION not in info.clips:
        try:
            out = held_out(clips.groups, clips.labels >= PRESENT, settings, info.vocabulary)
        except IrmasError as error:
            raise IrmasError(f"{location} cannot be split for validation: {error}") from error
        own, aside = clips.select(np.flatnonzero(~out)), clips.select(np.flatnonzero(out))
    elif settings.by == "source":
        raise IrmasError(
            f"{location} has validation clips of its own, so that validation.by=source holds no "
            "source out: leave it out, or index the clips without that part"
        )
    else:
        aside = read_clips(location, VALIDATION)
        # Of one file, groups say which spans belong together.
        theirs = HeldOut.of(aside, location, info)
        own = new_clips(clips, location, info, theirs, of_one_file=False)
    require_positives(aside, location)
    _tell_lacking(aside, location, info.vocabulary)
    return SetAside(own, aside, _out(own, aside, location, info, settings))


def _out(
    own: Clips, aside: Clips, location: str, info: StoreInfo, settings: ValidationSettings
) -> HeldOut:
    """Return what no clip to learn may share with the validation clips of the store."""
    out = HeldOut.of(aside, location, info)
    if settings.by == "source":
        seen = set().union(*sources_of(own, info.vocabulary))
        held = set().union(*sources_of(aside, info.vocabulary))
        out |= HeldOut(sources=frozenset(held - seen))
    return out


def _tell_lacking(clips: Clips, name: str, vocabulary: Vocabulary) -> None:
    """Say what no validation clip is known to have."""
    lacking = [
        code
        for code, column in zip(vocabulary.codes, (clips.labels >= PRESENT).T, strict=True)
        if not column.any()
    ]
    if lacking:
        say(
            f"no validation clip of {name} is known to have {', '.join(lacking)}: the "
            "model will not decide for what it was not validated on"
        )


def tell_always_known(clips: Clips, name: str, vocabulary: Vocabulary) -> None:
    """Say what is known to be absent from no validation clip, though it is known of some."""
    plays = (clips.labels >= PRESENT).any(axis=0)
    lacks = (clips.labels < PRESENT).any(axis=0)
    if always := [vocabulary.codes[column] for column in np.flatnonzero(plays & ~lacks)]:
        say(
            f"no validation clip of {name} is known to be without {', '.join(always)}: "
            "figures of these are perfect whatever the model, and their thresholds mean nothing"
        )

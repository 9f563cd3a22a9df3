"""Splits that cannot leak: whole groups go to one side, every instrument to both."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from irmas_dist.errors import IrmasError
from irmas_dist.settings import Settings


class SplitSettings(Settings):
    """Settings of the validation split."""

    validation: float = Field(0.15, gt=0.0, lt=1.0)
    """Share of each instrument's clips that is held out for validation."""
    seed: int = 0
    """Which groups are held out; the same seed holds out the same groups."""


def held_out(
    groups: Sequence[str], labels: npt.NDArray[np.uint8], settings: SplitSettings
) -> npt.NDArray[np.bool_]:
    """Choose the clips to hold out, whole groups at a time, stratified over instruments.

    Groups are taken in an order that depends on the seed and on their own names alone. One is
    held out when at least half of it fits into what its rarest instrument still wants there,
    so that each instrument's share comes within one group of what was asked for.

    Args:
        groups: Group of each clip.
        labels: Multi-hot labels, shape (clips, instruments).
        settings: The share to hold out, and the seed.

    Returns:
        True where a clip is held out, shape (clips,).

    Raises:
        IrmasError: An instrument has too few groups to be on both sides.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    total = labels.sum(axis=0)
    taken = np.zeros_like(total, dtype=float)
    out = np.zeros(len(groups), np.bool_)

    def hold_out(group: str) -> None:
        out[members[group]] = True
        taken[:] += labels[members[group]].sum(axis=0)

    order = sorted(members, key=lambda group: _digest(f"{settings.seed}/{group}"))
    for group in order:
        count = labels[members[group]].sum(axis=0)
        present = np.flatnonzero(count)
        if present.size:
            rarest = present[np.argmin(total[present])]
            if taken[rarest] + count[rarest] / 2 <= total[rarest] * settings.validation:
                hold_out(group)
    for instrument in np.flatnonzero((total > 0) & (taken == 0)):
        hold_out(next(group for group in order if labels[members[group], instrument].any()))
    for instrument in np.flatnonzero(total):
        if not 0 < taken[instrument] < total[instrument]:
            raise IrmasError(
                f"instrument number {instrument + 1} has too few groups to be held out "
                f"at a share of {settings.validation:g}; add recordings or change the share"
            )
    return out


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()

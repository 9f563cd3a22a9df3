"""Scores over time, of windows and of the clip that they cover."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irmas_dist.inference.combination import Combination
from irmas_dist.training.model_description import ModelDescription

NOTHING_AUDIBLE = "silent: nothing in its spectrogram exceeds the model's floor"


@dataclass(frozen=True, eq=False)
class Timeline:
    """Scores over time.

    Attributes:
        codes: The instruments, in the order of the columns.
        starts: Start of each window in seconds, shape (windows,).
        ends: Its end, shape (windows,).
        windows: Its scores from 0 to 1, float32, shape (windows, instruments); of a silent
            window all are 0.
        scores: Those of the clip by the model's aggregation, by instrument code.
        note: One line if the clip is silent or very short, or its channels cancel each other.
    """

    codes: tuple[str, ...]
    starts: npt.NDArray[np.float64]
    ends: npt.NDArray[np.float64]
    windows: npt.NDArray[np.float32]
    scores: dict[str, float]
    note: str | None = None


def timeline_of(
    description: ModelDescription,
    combination: Combination,
    offsets: Sequence[int],
    of_windows: npt.NDArray[np.float32],
    notes: Sequence[str],
) -> Timeline:
    """Aggregate the scores of a file's windows.

    Args:
        description: The model.
        combination: Its own.
        offsets: The first frame of each window.
        of_windows: Their scores by each member, shape (windows, members, instruments).
        notes: What is unusual of the audio.
    """
    windows, features = description.windows, description.features
    starts = np.array(offsets)
    whole = combination.aggregated(of_windows, np.array([0, len(of_windows)]))[0]
    averaged = combination.averaged(np.moveaxis(of_windows, 1, 0))
    codes = description.vocabulary.codes
    return Timeline(
        codes=codes,
        starts=starts / features.frames_per_second,
        ends=(starts + windows.frames) / features.frames_per_second,
        windows=averaged,
        scores=dict(zip(codes, whole.tolist(), strict=True)),
        note=next(iter(notes), None if averaged.any() else NOTHING_AUDIBLE),
    )

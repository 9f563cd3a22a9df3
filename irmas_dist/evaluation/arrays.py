"""The arrays that evaluation works on; these types state their shapes and ranges."""

from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.instruments import UNKNOWN

Labels = npt.NDArray[np.integer[Any]]
"""Shape (clips, instruments): 1 where the instrument plays, 0 where it does not, and `UNKNOWN`
where nobody says. Of unknown labels nothing is counted, neither right nor wrong."""

Booleans = npt.NDArray[np.bool_]

Decisions = npt.NDArray[np.integer[Any]]
"""0 or 1, shape (clips, instruments): 1 where the instrument is predicted."""

ScoreArray = npt.NDArray[np.floating[Any]]
"""From 0 to 1, shape (clips, instruments), higher where the model is surer."""

Thresholds = npt.NDArray[np.float32]
"""Shape (instruments,)."""

Float64 = npt.NDArray[np.float64]


def validate(labels: Labels, scores_or_decisions: npt.NDArray[Any]) -> None:
    """Check labels and scores (or decisions).

    Raises:
        ValueError: They are not both of shape (clips, instruments) with at least one clip,
            a label is not 0, 1 or `UNKNOWN`, or a score is not a finite number.
    """
    if labels.ndim != 2 or labels.shape != scores_or_decisions.shape or labels.size == 0:
        raise ValueError(
            "labels and scores must have one shape (clips, instruments) and not be empty, "
            f"got {labels.shape} and {scores_or_decisions.shape}"
        )
    if not np.isin(labels, (0, 1, UNKNOWN)).all():
        raise ValueError(f"labels must be 0, 1 or {UNKNOWN} for unknown")
    if not np.isfinite(scores_or_decisions).all():
        raise ValueError("scores must be finite numbers")


def union(labels: Labels, axis: int) -> Labels:
    """Return the labels of what is several clips, or several instruments, at once.

    What plays in one plays in all together; else, what is unknown in one is unknown.

    Args:
        labels: Any shape.
        axis: The axis of what is put together, which the result lacks.
    """
    plays, unknown = (labels == 1).any(axis=axis), (labels == UNKNOWN).any(axis=axis)
    return np.where(plays, 1, np.where(unknown, UNKNOWN, 0)).astype(np.int8)

"""Which instrument is taken for which, where a clip may have several.

With one label a clip, a confusion matrix counts what was said instead of the truth. With
several, what is wrongly said cannot be laid to one missed instrument, but it can be seen in
company: of the clips in which an instrument was missed, how often was another wrongly said,
and how much oftener than in clips that do not have that other one anyway.
"""

from typing import NamedTuple

import numpy as np

from irmas_dist.evaluation.arrays import Decisions, Float64, Labels, validate


class Confusion(NamedTuple):
    """What was wrongly said where something was missed.

    Attributes:
        missed: Clips in which each instrument was missed, shape (instruments,).
        instead: Share of them in which each other was wrongly said, shape (missed, said); 0
            where none was missed.
        usual: Share of the clips without an instrument in which it is said, shape (said,).
    """

    missed: Float64
    instead: Float64
    usual: Float64


def confusion(labels: Labels, decisions: Decisions) -> Confusion:
    """Count errors that occur together.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        decisions: 0 or 1, shape (clips, instruments).

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, decisions)
    missed = ((labels == 1) & (decisions == 0)).astype(np.float64)
    wrong = ((labels == 0) & (decisions == 1)).astype(np.float64)
    times = missed.sum(axis=0)
    absent = np.count_nonzero(labels == 0, axis=0)
    return Confusion(
        missed=times,
        instead=missed.T @ wrong / np.maximum(times, 1)[:, None],
        usual=wrong.sum(axis=0) / np.maximum(absent, 1),
    )

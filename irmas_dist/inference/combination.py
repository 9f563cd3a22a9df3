"""How the scores of a model's networks become those of clips.

Each member's scores are aggregated over the windows of a clip by its own rule, calibrated, and then
averaged. Those of windows, for timelines, are calibrated and averaged alike.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.evaluation.platt import Platt
from irmas_dist.training.model_description import ModelDescription

Float32 = npt.NDArray[np.float32]


class Combination:
    """How the scores of a model's networks become those of clips.

    Args:
        description: The content of ``model.json``.
    """

    def __init__(self, description: ModelDescription) -> None:
        self._parts = description.parts

    def aggregated(self, scores: Float32, bounds: npt.NDArray[np.int64]) -> Float32:
        """Return the scores of clips, shape (clips, instruments), from those of their windows.

        Args:
            scores: Shape (windows, members, instruments).
            bounds: As of `ClipWindows`.
        """
        return self.averaged([
            aggregate(scores[:, number], bounds, part.aggregation)
            for number, part in enumerate(self._parts)
        ])  # fmt: skip

    def averaged(self, scores: Sequence[Float32] | Float32) -> Float32:
        """Return the mean of each member's calibrated scores; of a single model, its scores."""
        calibrated = [
            one
            if part.calibration is None
            else Platt(part.calibration.scale, part.calibration.offset)(one)
            for one, part in zip(scores, self._parts, strict=True)
        ]
        if len(calibrated) == 1:
            return calibrated[0]
        mean: Float32 = np.mean(calibrated, axis=0, dtype=np.float32)
        return mean

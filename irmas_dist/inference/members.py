"""The networks of a model: the only one, or those of an ensemble, whose scores are averaged.

Each member's scores are aggregated over the windows of a clip by its own rule, calibrated, and then
averaged. Those of windows, for timelines, are calibrated and averaged alike.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.evaluation.platt import Platt
from irmas_dist.models.cnn import CNN
from irmas_dist.models.ensemble import Ensemble, members_of
from irmas_dist.models.standardise import Standardise
from irmas_dist.training.model_directory import ModelDescription
from irmas_dist.training.precision import without_tf32

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


class Members(Combination):
    """The networks of a model, each with its normalisation, aggregation and calibration.

    Args:
        description: The content of ``model.json``.
        network: On the device, in evaluation mode.
        device: The device.

    Attributes:
        networks: Each network, and the normalisation of its windows.
    """

    def __init__(
        self, description: ModelDescription, network: CNN | Ensemble, device: torch.device
    ) -> None:
        super().__init__(description)
        self.networks = [
            (
                member,
                Standardise(list(part.normalisation.mean), list(part.normalisation.std)).to(device),
            )
            for member, part in zip(members_of(network), self._parts, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.networks)

    def scores(self, mel: Tensor) -> Float32:
        """Score windows, shape (windows, bands, frames), on the device.

        Returns:
            Scores from 0 to 1, shape (windows, members, instruments).
        """
        with without_tf32:
            logits = [
                network(standardise(mel.transpose(1, 2))) for network, standardise in self.networks
            ]
        scores: Float32 = torch.stack(logits, dim=1).float().sigmoid().cpu().numpy()
        return scores

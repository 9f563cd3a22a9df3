"""The networks of a model: the only one, or those of an ensemble, whose scores are averaged."""

import torch
from torch import Tensor

from irmas_dist.inference.combination import Combination, Float32
from irmas_dist.models.cnn import CNN
from irmas_dist.models.ensemble import Ensemble, members_of
from irmas_dist.models.standardise import Standardise
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.precision import without_tf32


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
                Standardise(part.normalisation.mean, part.normalisation.std).to(device),
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

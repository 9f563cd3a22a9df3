"""Losses of multilabel classification, with weights for rare instruments.

Write z for a logit, p = sigmoid(z), and y for its label. All three kinds are sums over labels of

    - w y (1 - p)^g+ log p  -  (1 - y) q^g- log(1 - q),    q = max(p - m, 0)

*bce*, binary cross-entropy, has g+ = g- = m = 0. *focal* has g+ = g- = ``gamma`` and m = 0, which
weighs confident correct predictions less (Lin et al., "Focal loss for dense object detection",
2017, equation 4; ``balance`` takes the role of its alpha). *asymmetric* has separate exponents and
disregards negatives whose score is below the ``margin`` (Ridnik et al., "Asymmetric loss for
multi-label classification", 2021, equation 7).
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irmas_dist.config.training import LossSettings
from irmas_dist.instruments import SoftLabels

SMALLEST = 1e-8
"""Lower bound of probabilities raised to a power, whose slope may be infinite at 0."""

NEAREST = 1e-7
"""Lower bound of probabilities whose logarithm is computed from their complement."""


class Loss(nn.Module):
    """The loss summed over windows; the caller divides by the size of the whole batch.

    Args:
        settings: Which loss.
        labels: Labels of the training clips, shape (clips, instruments); the sums of known ones
            give the weights of positive labels.
        partial: Whether labels may be unknown; these add nothing to the loss.
        weights: How often each clip is drawn, shape (clips,); None: all alike.
    """

    positive_weight: Tensor

    def __init__(
        self,
        settings: LossSettings,
        labels: SoftLabels,
        *,
        partial: bool = False,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        self.settings, self._partial = settings, partial
        each = np.ones((len(labels), 1)) if weights is None else weights[:, None]
        positives = np.maximum(np.nansum(labels * each, axis=0, dtype=np.float64), 1)
        negatives = np.maximum((~np.isnan(labels) * each).sum(axis=0) - positives, 1)
        weight = torch.from_numpy((negatives / positives) ** settings.balance)
        self.register_buffer("positive_weight", weight.float())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over all windows and instruments, in float32.

        Args:
            logits: Shape (windows, instruments).
            labels: From 0 to 1, NaN where unknown, float32, of the same shape.
        """
        settings, logits = self.settings, logits.float()
        known = None
        if self._partial:
            known, labels = ~labels.isnan(), labels.nan_to_num()
        labels = labels * (1 - settings.smoothing) + settings.smoothing / 2
        if settings.kind == "bce":
            return F.binary_cross_entropy_with_logits(
                logits,
                labels,
                weight=None if known is None else known.float(),
                # Weights of 1 would cost a GPU eight kernels in each step.
                pos_weight=self.positive_weight if settings.balance else None,
                reduction="sum",
            )
        if settings.kind == "focal":
            above = below = settings.gamma
            margin = 0.0
        else:
            above, below = settings.gamma_positive, settings.gamma_negative
            margin = settings.margin
        score = logits.sigmoid()
        shifted = (score - margin).clamp(min=SMALLEST)
        # Without a margin the logarithm is computed from the logit: 1 - score may round to 0.
        # So may 1 - shifted, where the margin is below float32's precision.
        below_one = shifted.clamp(max=1 - NEAREST)
        negative = torch.log1p(-below_one) if margin else F.logsigmoid(-logits)
        positive = (1 - score).clamp(min=SMALLEST) ** above * F.logsigmoid(logits)
        losses = self.positive_weight * labels * positive + (1 - labels) * shifted**below * negative
        return -(losses if known is None else losses * known).sum()

"""A model as one graph, from samples to scores, of operators that all runtimes support.

Front end, windows, network and aggregation are one module without data-dependent control flow,
so that `torch.export` can trace it for any number of samples.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irmas_dist.config.decisions import AggregationRule
from irmas_dist.corpus.mixdown import LOUDEST
from irmas_dist.evaluation.aggregate import POOL_STRIDE, POOL_WINDOWS
from irmas_dist.evaluation.platt import MARGIN, MOST_LOGIT
from irmas_dist.inference.front_end import FrontEnd
from irmas_dist.models.cnn import CNN
from irmas_dist.models.ensemble import Ensemble, members_of
from irmas_dist.models.standardise import Standardise
from irmas_dist.training.model_description import Calibration, ModelDescription


class Graph(nn.Module):
    """A module from samples to scores, as `Predictor` computes them.

    Args:
        description: The content of ``model.json``.
        network: With its weights, in evaluation mode.
        sample_rate: Rate of the samples in Hz; None: that of the features.

    Raises:
        IrmasError: `FrontEnd` cannot be built for these settings and this rate.
    """

    def __init__(
        self,
        description: ModelDescription,
        network: CNN | Ensemble,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__()
        self.front_end = FrontEnd(description.features, sample_rate)
        self.parts = description.parts
        self.standardise = nn.ModuleList(
            Standardise(part.normalisation.mean, part.normalisation.std) for part in self.parts
        )
        self.networks = nn.ModuleList(map(_translatable, members_of(network)))
        self.floor = description.features.log_floor
        self.silence = description.features.silence
        self.windows = description.windows
        self.eval()

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores of a clip and of its windows.

        Args:
            samples: One channel, full scale at 1, shape (samples,), one or more.

        Returns:
            Scores from 0 to 1, shape (instruments,), and shape (windows, instruments); NaN where a
            sample is no number or beyond `LOUDEST`, which `Predictor` refuses.
        """
        size, hop = self.windows.frames, self.windows.hop_frames
        mel = self.front_end(samples)
        # In this form the tracer can prove that there is at least one window.
        last = torch.sym_max(mel.shape[1] - size, 0)
        count = (last + hop - 1) // hop + 1
        mel = F.pad(mel, (0, size), value=self.floor)
        starts = torch.clamp(hop * torch.arange(count), max=last)
        windows = mel.T[starts[:, None] + torch.arange(size)]
        sounding = windows.amax(dim=(1, 2)) > self.silence
        of_clip, of_windows = [], []
        for part, network, standardise in zip(
            self.parts, self.networks, self.standardise, strict=True
        ):
            scores = network(standardise(windows)).sigmoid()
            scores = torch.where(sounding[:, None], scores, 0.0)
            of_clip.append(calibrated(aggregated(scores, part.aggregation), part.calibration))
            of_windows.append(calibrated(scores, part.calibration))
        if len(self.parts) == 1:
            clip, every = of_clip[0], of_windows[0]
        else:
            clip, every = torch.stack(of_clip).mean(dim=0), torch.stack(of_windows).mean(dim=0)
        # Maxima and clamping would hide it.
        usable = (samples.abs() <= LOUDEST).all()
        return torch.where(usable, clip, math.nan), torch.where(usable, every, math.nan)


def _translatable(network: CNN) -> CNN:
    """Return a copy of a network that can be traced for any number of windows."""
    # In the memory layout of ONNX: with channels last, a single window would be a special case.
    copied = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for index, layer in enumerate(copied.layers):
        if isinstance(layer, nn.AdaptiveMaxPool2d):
            copied.layers[index] = _GlobalMaxPool()
    return copied


class _GlobalMaxPool(nn.Module):
    """``AdaptiveMaxPool2d(1)``, which has no translation to ONNX."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maximum of each map, shape (windows, channels)."""
        return maps.amax(dim=(2, 3))


def calibrated(scores: Tensor, calibration: Calibration | None) -> Tensor:
    """Calibrate the scores of an ensemble's member, as `evaluation.platt`; None leaves them."""
    if calibration is None:
        return scores
    inside = scores.clamp(MARGIN, 1 - MARGIN)
    logits = calibration.scale * torch.log(inside / (1 - inside)) + calibration.offset
    return torch.where(scores > 0, logits.clamp(-MOST_LOGIT, MOST_LOGIT).sigmoid(), 0.0)


def aggregated(windows: Tensor, rule: AggregationRule) -> Tensor:
    """Aggregate scores of shape (windows, instruments) over windows, as `evaluation.aggregate`."""
    counted = (windows > 0).any(dim=1).sum().clamp(min=1)
    match rule:
        case "mean":
            return windows.sum(dim=0) / counted
        case "max":
            return windows.amax(dim=0)
        case "s2":
            return _divided_by_largest(windows.sum(dim=0))
        case "han2017":
            # Scores are not negative, so zeros after the last window never are the maximum.
            padded = F.pad(windows, (0, 0, 0, POOL_WINDOWS))
            beyond = torch.sym_max(windows.shape[0] - POOL_WINDOWS, 0)
            maxima = (beyond + POOL_STRIDE - 1) // POOL_STRIDE + 1
            within = POOL_STRIDE * torch.arange(maxima)[:, None] + torch.arange(POOL_WINDOWS)
            return _divided_by_largest(padded[within].amax(dim=1).sum(dim=0))
        case "attention":
            sums = windows.sum(dim=0)
            return (windows * windows).sum(dim=0) / torch.where(sums > 0, sums, 1.0)
        case _:
            top = int(rule.removeprefix("top"))
            # Zeros replace missing windows, and are not counted.
            largest = F.pad(windows, (0, 0, 0, top)).topk(top, dim=0).values
            return largest.sum(dim=0) / counted.clamp(max=top)


def _divided_by_largest(sums: Tensor) -> Tensor:
    largest = sums.amax(dim=0)
    return sums / torch.where(largest > 0, largest, 1.0)

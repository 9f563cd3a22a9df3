"""A model as one graph, from samples to scores, made of what every runtime has.

Front end, windows, network and aggregation are one module without decisions that depend on
data, so that `torch.export` can trace it for any number of samples. The Fourier transform is a
convolution with a windowed DFT basis, which is exact to float32 and quick wherever
convolutions are.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irmas_dist.config.decisions import AggregationRule
from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.aggregate import POOL_STRIDE, POOL_WINDOWS
from irmas_dist.features.mel import mel_filters, periodic_window
from irmas_dist.models.cnn import CNN
from irmas_dist.models.standardise import Standardise
from irmas_dist.training.model_directory import ModelDescription

LARGEST_FFT = 8_192
"""The basis has as many values as the square of this, and a file of ONNX takes 2 GB."""


class Graph(nn.Module):
    """Samples to scores, as `Predictor` computes them.

    Args:
        description: The content of ``model.json``.
        network: With its weights, in evaluation mode.

    Raises:
        IrmasError: The FFT is too long for a basis.
    """

    def __init__(self, description: ModelDescription, network: CNN) -> None:
        super().__init__()
        self.front_end = FrontEnd(description.features)
        normalisation = description.normalisation
        self.standardise = Standardise(list(normalisation.mean), list(normalisation.std))
        self.network = _translatable(network)
        self.floor = description.features.log_floor
        self.windows = description.windows
        self.eval()

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores of a clip and of its windows.

        Args:
            samples: One channel at the sample rate of the features, full scale at 1, shape
                (samples,), one or more.

        Returns:
            Scores from 0 to 1, shape (instruments,), and shape (windows, instruments).
        """
        size, hop = self.windows.frames, self.windows.hop_frames
        mel = self.front_end(samples)
        # Written so that the tracer can tell that there is always a window.
        last = torch.sym_max(mel.shape[1] - size, 0)
        count = (last + hop - 1) // hop + 1
        mel = F.pad(mel, (0, size), value=self.floor)
        starts = torch.clamp(hop * torch.arange(count), max=last)
        cut = mel.T[starts[:, None] + torch.arange(size)]
        windows = self.network(self.standardise(cut)).sigmoid()
        return aggregated(windows, self.windows.aggregation), windows


def _translatable(network: CNN) -> CNN:
    """Return a copy of a network that can be traced for any number, and translated to ONNX."""
    # Laid out in memory as ONNX does: with channels last, one window would be a case of its own.
    copied = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for index, layer in enumerate(copied.layers):
        if isinstance(layer, nn.AdaptiveMaxPool2d):
            copied.layers[index] = _LargestOfMap()
    return copied


class _LargestOfMap(nn.Module):
    """What ``AdaptiveMaxPool2d(1)`` gives, which there is no translation of."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return one value of each map, shape (windows, channels)."""
        return maps.amax(dim=(2, 3))


class FrontEnd(nn.Module):
    """The log-mel spectrogram of `features.logmel`, of samples at its own rate.

    Args:
        settings: What to compute; channels and rates are the caller's.

    Raises:
        IrmasError: The FFT is too long for a basis.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self, settings: LogMelSettings) -> None:
        super().__init__()
        if settings.n_fft > LARGEST_FFT:
            raise IrmasError(
                f"features.n_fft={settings.n_fft} is too long to export; {LARGEST_FFT} or less can"
            )
        self.settings = settings
        angles = np.outer(np.arange(settings.n_fft // 2 + 1), np.arange(settings.n_fft))
        # Reduced first: the cosine of a large number has few digits left.
        turns = (angles % settings.n_fft) * (2 * np.pi / settings.n_fft)
        window = periodic_window(settings).astype(np.float64)
        basis = np.concatenate([np.cos(turns), np.sin(turns)]) * window
        self.register_buffer("basis", torch.from_numpy(basis[:, None]).float())
        self.register_buffer("filters", torch.from_numpy(mel_filters(settings)))

    def forward(self, samples: Tensor) -> Tensor:
        """Return the spectrogram, shape (bands, frames), of samples of shape (samples,)."""
        settings = self.settings
        if settings.peak_normalise:
            peak = samples.abs().amax(dim=0)
            samples = samples / torch.where(peak > 0, peak, 1.0)
        margin = settings.n_fft // 2
        padded = F.pad(samples[None, None], (margin, margin))
        parts = F.conv1d(padded, self.basis, stride=settings.hop_length)[0]
        real, imaginary = parts.chunk(2)
        power = real * real + imaginary * imaginary
        if settings.power != 2:
            power = power ** (settings.power / 2)
        mel = (self.filters @ power).clamp(min=settings.floor).log()
        # Rounded as what the network was trained on.
        return mel.half().float() if settings.dtype == "float16" else mel


def aggregated(windows: Tensor, rule: AggregationRule) -> Tensor:
    """Aggregate the window scores of one clip, as `evaluation.aggregate` does.

    Args:
        windows: From 0 to 1, shape (windows, instruments).
        rule: How.

    Returns:
        Shape (instruments,).
    """
    match rule:
        case "mean":
            return windows.mean(dim=0)
        case "max":
            return windows.amax(dim=0)
        case "s2":
            return _relative(windows.sum(dim=0))
        case "han2017":
            # Scores are not negative: zeros behind the last window are never a maximum.
            padded = F.pad(windows, (0, 0, 0, POOL_WINDOWS))
            beyond = torch.sym_max(windows.shape[0] - POOL_WINDOWS, 0)
            maxima = (beyond + POOL_STRIDE - 1) // POOL_STRIDE + 1
            within = POOL_STRIDE * torch.arange(maxima)[:, None] + torch.arange(POOL_WINDOWS)
            return _relative(padded[within].amax(dim=1).sum(dim=0))
        case "attention":
            sums = windows.sum(dim=0)
            return (windows * windows).sum(dim=0) / torch.where(sums > 0, sums, 1.0)
        case _:
            most = int(rule.removeprefix("top"))
            # Of fewer windows than that, zeros make up the rest, and are not counted.
            largest = F.pad(windows, (0, 0, 0, most)).topk(most, dim=0).values
            counted = torch.ones_like(windows[:, 0]).sum().clamp(max=most)
            return largest.sum(dim=0) / counted


def _relative(sums: Tensor) -> Tensor:
    largest = sums.amax(dim=0)
    return sums / torch.where(largest > 0, largest, 1.0)

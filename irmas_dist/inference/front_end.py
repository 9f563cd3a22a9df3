"""The log-mel front end as a PyTorch module, for exported graphs.

It computes what `features.logmel` computes with numpy and soxr. Mel filters and the resampling
kernel are torchaudio's. Its modules ``Resample`` and ``MelSpectrogram`` are not used, because
`torch.export` specialises them on the traced length: here, the kernel is applied, and the Fourier
transform computed, by convolution.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks
from torchaudio.transforms import Resample

from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.mixdown import SILENCE
from irmas_dist.errors import IrmasError
from irmas_dist.features.mel import periodic_window

LARGEST_FFT = 8_192
"""The DFT basis has the square of this many values, and an ONNX file takes 2 GB."""

LARGEST_KERNEL = 2**23
"""Values of a resampling kernel: 32 MB, which every pair of common rates stays far below."""

# Fitted to soxr HQ on white noise. From 44.1 to 22.05 kHz, the two differ by
# -126 dB, in the highest twentieth of the band by -75 dB; from 48 to 22.05 kHz, by -104 dB in the
# lower two thirds and by -39 dB in the highest twentieth.
ZERO_CROSSINGS = 92
ROLLOFF = 0.95687
BETA = 12.75


class FrontEnd(nn.Module):
    """Samples of one channel to a log-mel spectrogram.

    Args:
        settings: What to compute; mixing channels down is the caller's.
        sample_rate: Rate of the samples in Hz; None: that of the settings.

    Raises:
        IrmasError: The FFT is too long for a basis, or the two rates have no common divisor that
            is large enough.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self, settings: LogMelSettings, sample_rate: int | None = None) -> None:
        super().__init__()
        if settings.n_fft > LARGEST_FFT:
            raise IrmasError(
                f"features.n_fft={settings.n_fft} is too long to export; {LARGEST_FFT} or less can"
            )
        self.settings = settings
        self.resample: nn.Module = nn.Identity()
        if sample_rate is not None and sample_rate != settings.sample_rate:
            self.resample = Resampler(sample_rate, settings.sample_rate)
        angles = np.outer(np.arange(settings.n_fft // 2 + 1), np.arange(settings.n_fft))
        # Reduced first: the cosine of a large number is inexact.
        turns = (angles % settings.n_fft) * (2 * np.pi / settings.n_fft)
        window = periodic_window(settings).astype(np.float64)
        basis = np.concatenate([np.cos(turns), np.sin(turns)]) * window
        self.register_buffer("basis", torch.from_numpy(basis[:, None]).float())
        # With bins up to the whole sample rate instead of half of it: torchaudio rounds half of
        # an odd rate down, and places the last bin there, which is right for an even n_fft only.
        filters = melscale_fbanks(
            settings.n_fft + 1, settings.fmin, settings.top, settings.bands,
            2 * settings.sample_rate, "slaney", settings.mel_scale,
        )  # fmt: skip
        self.register_buffer("filters", filters[: settings.n_fft // 2 + 1].T.contiguous())

    def forward(self, samples: Tensor) -> Tensor:
        """Return the spectrogram of a clip.

        Args:
            samples: Full scale at 1, shape (samples,), one or more.

        Returns:
            Shape (bands, frames); the floor everywhere if no sample reaches `SILENCE`.
        """
        settings = self.settings
        sounding = samples.abs().amax(dim=0) >= SILENCE
        samples = self.resample(samples)
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
        mel = torch.where(sounding, mel, settings.log_floor)
        # Rounded like the features that the network was trained on.
        return mel.half().float() if settings.dtype == "float16" else mel


class Resampler(nn.Module):
    """Resampling by a Kaiser-windowed sinc that approximates soxr HQ.

    Args:
        from_rate: Rate of the input in Hz.
        to_rate: Rate of the output in Hz.

    Raises:
        IrmasError: The kernel for these rates is too large.
    """

    kernel: Tensor

    def __init__(self, from_rate: int, to_rate: int) -> None:
        super().__init__()
        divisor = math.gcd(from_rate, to_rate)
        self.step, self.phases = from_rate // divisor, to_rate // divisor
        if self.phases * (2 * ZERO_CROSSINGS + self.step) > LARGEST_KERNEL:
            raise IrmasError(
                f"{from_rate} Hz cannot be resampled to the model's {to_rate} Hz in a graph: "
                "the ratio takes too large a kernel; choose a common rate, such as 44100 or 48000"
            )
        resample = Resample(from_rate, to_rate, "sinc_interp_kaiser", ZERO_CROSSINGS, ROLLOFF, BETA)
        self.width: int = resample.width
        self.register_buffer("kernel", resample.kernel)

    def forward(self, samples: Tensor) -> Tensor:
        """Return ``ceil(samples * to_rate / from_rate)`` samples, as `features.logmel` counts."""
        # One step more than needed: torch.export specialises on a single one.
        padded = F.pad(samples[None, None], (self.width, self.width + 2 * self.step))
        phases = F.conv1d(padded, self.kernel, stride=self.step)[0]
        length = (samples.shape[0] * self.phases + self.step - 1) // self.step
        # By index: torch.export cannot prove that a slice of this length is within bounds.
        return phases.T.flatten()[torch.arange(length, device=samples.device)]

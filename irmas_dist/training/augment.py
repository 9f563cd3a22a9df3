"""Carries out a plan on the device: windows are gathered, changed, added and masked."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from irmas_dist.config.features import LogMelSettings
from irmas_dist.features.mel import band_centres
from irmas_dist.training.sampling import Mixtures
from irmas_dist.training.windows import DeviceClips


class Mixer:
    """Makes planned examples in batches on a device.

    torchaudio's SpecAugment masks draw their spans inside, so that examples would depend on the
    number of workers; masks are therefore applied here from planned draws, as are all changes.

    Args:
        features: Settings of the log-mels.
        mean: Per-band mean that fills masked spans, shape (bands,).
        device: Where to compute.
    """

    def __init__(self, features: LogMelSettings, mean: Tensor, device: torch.device) -> None:
        self._unit = features.log_power_per_unit
        self._floor = math.exp(features.log_floor * self._unit)
        self._mean = mean.to(device)
        self._device = device
        self._centres = torch.from_numpy(band_centres(features)).to(device, torch.float32)
        bands = features.bands
        self._angles = (torch.arange(bands, device=device) + 0.5) * (torch.pi / bands)

    def __call__(self, resident: DeviceClips, plan: Mixtures, frames: int) -> tuple[Tensor, Tensor]:
        """Make the examples of a plan, each ``frames`` long.

        Returns:
            Log-mel examples, float32, shape (examples, frames, bands), and their labels, the
            union of their sources', float32, shape (examples, instruments). Frames past the end
            of a clip add nothing.
        """
        clips = self._to_device(plan.clips)
        mel, inside = self._windows(resident, plan, clips, frames)
        if (plan.pitches != 1).any():
            mel = self._shift_pitch(mel, self._to_device(plan.pitches))
        filters = self._to_device(plan.levels)[:, None] + self._curves(plan.curves)
        power = mel.mul_(self._unit).add_(filters[:, None, :]).exp_()
        if inside is not None:
            power *= inside[:, :, None]
        mixed = self._sum_sources(power, np.diff(plan.first))
        labels = self._sum_sources(resident.labels[clips], np.diff(plan.first)).clamp(max=1.0)
        if plan.noise.any():
            colour = self._curves(plan.colours).exp() * self._to_device(plan.noise)[:, None]
            mixed += (mixed.mean(dim=(1, 2))[:, None] * colour)[:, None, :]
        mixed = mixed.clamp_(min=self._floor).log_().div_(self._unit)
        return self._mask(mixed, plan), labels

    def _to_device(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device, non_blocking=True)

    def _windows(
        self, resident: DeviceClips, plan: Mixtures, clips: Tensor, frames: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return sources at their tempo, and which frames are inside clips; None for all."""
        offsets = self._to_device(plan.offsets)
        if (plan.tempi == 1).all():
            mel, inside = resident.windows(clips, offsets, frames)
            end = plan.offsets + frames
        else:
            tempi = self._to_device(plan.tempi)[:, None]
            positions = torch.arange(frames, device=self._device) * tempi
            mel, inside = resident.between(clips, offsets[:, None] + positions)
            end = plan.offsets + np.ceil((frames - 1) * plan.tempi).astype(np.int64) + 1
        all_inside = (end <= resident.clips.lengths[plan.clips]).all()
        return mel, None if all_inside else inside

    def _shift_pitch(self, mel: Tensor, pitches: Tensor) -> Tensor:
        """Shift spectra by frequency ratios, interpolating between bands.

        The value at ``f`` Hz comes from ``f / pitch`` Hz; beyond the outermost bands their
        values are repeated.
        """
        bands = len(self._centres)
        wanted = self._centres / pitches[:, None]
        low = (torch.searchsorted(self._centres, wanted) - 1).clamp(0, bands - 2)
        gap = self._centres[low + 1] - self._centres[low]
        share = ((wanted - self._centres[low]) / gap).clamp(0, 1)[:, None, :]
        index = low[:, None, :].expand_as(mel)
        return torch.lerp(mel.gather(2, index), mel.gather(2, index + 1), share)

    def _curves(self, amplitudes: npt.NDArray[np.float32]) -> Tensor:
        """Return sums of cosines over the bands, shape (curves, bands)."""
        orders = torch.arange(1, amplitudes.shape[1] + 1, device=self._device)
        return self._to_device(amplitudes) @ torch.cos(orders[:, None] * self._angles)

    def _sum_sources(self, values: Tensor, counts: npt.NDArray[np.int64]) -> Tensor:
        """Sum over the sources of each example; the first dimension becomes that of examples."""
        example = self._to_device(np.repeat(np.arange(len(counts)), counts))
        total = torch.zeros(len(counts), *values.shape[1:], device=self._device)
        return total.index_add_(0, example, values)

    def _mask(self, mixed: Tensor, plan: Mixtures) -> Tensor:
        for axis, spans in ((2, plan.band_masks), (1, plan.frame_masks)):
            if not (spans[..., 1] > spans[..., 0]).any():
                continue
            position = torch.arange(mixed.shape[axis], device=self._device)
            low, high = self._to_device(spans).unbind(2)
            masked = ((position >= low[..., None]) & (position < high[..., None])).any(dim=1)
            mixed = torch.where(masked.unsqueeze(3 - axis), self._mean, mixed)
        return mixed

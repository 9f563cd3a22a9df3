"""Carries out a plan on the device: windows are gathered, changed, added and masked."""

import math

import torch
from torch import Tensor

from irmas_dist.config.augment import MOST_COSINES
from irmas_dist.config.features import LogMelSettings
from irmas_dist.features.mel import band_centres
from irmas_dist.instruments import PRESENT
from irmas_dist.training.steps import DeviceMixtures
from irmas_dist.training.windows import DeviceClips


class Mixer:
    """Makes planned examples in batches on a device, without waiting for it.

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
        angles = (torch.arange(bands, device=device) + 0.5) * (torch.pi / bands)
        orders = torch.arange(1, MOST_COSINES + 1, device=device)
        self._cosines = torch.cos(orders[:, None] * angles)

    def __call__(
        self, resident: DeviceClips, plan: DeviceMixtures, frames: int
    ) -> tuple[Tensor, Tensor]:
        """Make the examples of a plan, each ``frames`` long.

        Returns:
            Log-mel examples, float32, shape (examples, frames, bands), and their labels, the
            union of their sources', float32, shape (examples, instruments): what is present in
            one is present, else what is unknown in one is NaN. Frames past the end of a clip add
            nothing.
        """
        mel, inside = self._windows(resident, plan, frames)
        if plan.changes.pitch:
            mel = self._shift_pitch(mel, plan.pitches)
        filters = plan.levels[:, None] + self._curves(plan.curves)
        if self._unit != 1:
            mel = mel.mul_(self._unit)
        power = mel.add_(filters[:, None, :]).exp_()
        if plan.changes.padding:
            power *= inside[:, :, None]
        mixed = self._sum_sources(power, plan)
        labels = self._union(resident, plan)
        if plan.changes.noise:
            colour = self._curves(plan.colours).softmax(1) * len(self._centres)  # mean power 1
            level = mixed.mean(dim=(1, 2)) * plan.noise
            mixed += (level[:, None] * colour)[:, None, :]
        mixed = mixed.clamp_(min=self._floor).log_()
        if self._unit != 1:
            mixed = mixed.div_(self._unit)
        if plan.changes.band_masks:
            mixed = self._mask(mixed, plan.band_masks, axis=2)
        if plan.changes.frame_masks:
            mixed = self._mask(mixed, plan.frame_masks, axis=1)
        return mixed, labels

    def _windows(
        self, resident: DeviceClips, plan: DeviceMixtures, frames: int
    ) -> tuple[Tensor, Tensor]:
        """Return sources at their tempo, and which frames are inside clips."""
        if not plan.changes.tempo:
            return resident.windows(plan.clips, plan.offsets, frames)
        positions = torch.arange(frames, device=self._device) * plan.tempi[:, None]
        return resident.between(plan.clips, plan.offsets[:, None] + positions)

    def _shift_pitch(self, mel: Tensor, pitches: Tensor) -> Tensor:
        """Shift spectra by frequency ratios, interpolating between bands.

        The value at ``f`` Hz comes from ``f / pitch`` Hz; beyond the outermost bands their
        values are repeated.
        """
        bands = len(self._centres)
        wanted = self._centres / pitches[:, None]
        low = (torch.searchsorted(self._centres, wanted) - 1).clamp(0, bands - 2)
        high = low + 1
        below, above = self._centres[low], self._centres[high]
        share = ((wanted - below) / (above - below)).clamp(0, 1)[:, None, :]
        lower, upper = (mel.gather(2, each[:, None, :].expand_as(mel)) for each in (low, high))
        return torch.lerp(lower, upper, share)

    def _curves(self, amplitudes: Tensor) -> Tensor:
        """Return sums of cosines over the bands, shape (curves, bands)."""
        return amplitudes @ self._cosines[: amplitudes.shape[1]]

    def _sum_sources(self, values: Tensor, plan: DeviceMixtures) -> Tensor:
        """Sum over the sources of each example; the first dimension becomes that of examples."""
        # One more, for the sources that only fill a row.
        total = torch.zeros(plan.count + 1, *values.shape[1:], device=self._device)
        return total.index_add_(0, plan.example, values)[:-1]

    def _union(self, resident: DeviceClips, plan: DeviceMixtures) -> Tensor:
        """Return the largest label of the sources; unknown if none is present and one unknown."""
        labels = resident.labels[plan.clips]
        largest = torch.zeros(plan.count + 1, labels.shape[1], device=self._device)
        example = plan.example.long()[:, None].expand_as(labels)
        known = labels.nan_to_num() if resident.partial else labels
        present = largest.scatter_reduce_(0, example, known, "amax")[:-1]
        if not resident.partial:
            return present
        unknown = self._sum_sources(labels.isnan().float(), plan) > 0
        return present.masked_fill(unknown & (present < PRESENT), math.nan)

    def _mask(self, mixed: Tensor, spans: Tensor, axis: int) -> Tensor:
        position = torch.arange(mixed.shape[axis], device=self._device)
        low, high = spans.unbind(2)
        masked = ((position >= low[..., None]) & (position < high[..., None])).any(dim=1)
        return torch.where(masked.unsqueeze(3 - axis), self._mean, mixed)

"""Windows of clips: gathered on the device, laid over whole clips, scored."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from irmas_dist.config.decisions import AggregationRule
from irmas_dist.config.features import LogMelSettings
from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.features.clips import Clips
from irmas_dist.models.standardise import Standardise

GPU_SHARE = 0.5
"""Clips are kept on the GPU when they take at most this share of its free memory."""

SCORED_AT_ONCE = 256
"""Windows in a batch that is scored."""


class DeviceClips:
    """Clips from which windows are gathered, kept on the device when they fit there.

    Args:
        clips: Clips in memory; on the CPU their array is used without a copy.
        device: Where windows are needed.
    """

    def __init__(self, clips: Clips, device: torch.device) -> None:
        kept_on = device
        if device.type == "cuda" and clips.frames.nbytes > GPU_SHARE * _free_memory():
            kept_on = torch.device("cpu")
        with warnings.catch_warnings():
            # Arrays from Ray's object store are read-only, and nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self._frames = torch.from_numpy(clips.frames).to(kept_on)
        self.clips = clips
        self.starts = torch.from_numpy(clips.starts.copy()).to(device)
        self.lengths = torch.from_numpy(clips.lengths.copy()).to(device)
        self.labels = torch.from_numpy(clips.labels.copy()).to(device)
        self.partial = bool(np.isnan(clips.labels).any())
        self.device = device

    @property
    def is_on_device(self) -> bool:
        """Whether windows are gathered without a copy from host to device."""
        return self._frames.device.type == self.device.type

    def windows(self, clips: Tensor, offsets: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Gather windows.

        Args:
            clips: Index of the clip of each window, shape (windows,).
            offsets: First frame of each window within its clip, shape (windows,).
            frames: Length of every window.

        Returns:
            Log-mel windows, float32, shape (windows, frames, bands), and a mask that is False
            where a window extends past the end of its clip, shape (windows, frames).
        """
        within = offsets[:, None] + torch.arange(frames, device=self.device)
        lengths = self.lengths[clips][:, None]
        rows = self.starts[clips][:, None] + torch.minimum(within, lengths - 1)
        return self._rows(rows), within < lengths

    def between(self, clips: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Gather windows as `windows` does, at fractional frames of the clips, by interpolation.

        ``positions`` has the position of each frame within its clip, shape (windows, frames).
        """
        lengths = self.lengths[clips][:, None]
        low = positions.long()
        starts = self.starts[clips][:, None]
        below, above = (
            self._rows(starts + torch.minimum(row, lengths - 1)) for row in (low, low + 1)
        )
        return torch.lerp(below, above, (positions - low)[:, :, None]), positions <= lengths - 1

    def _rows(self, rows: Tensor) -> Tensor:
        return self._frames[rows.to(self._frames.device)].to(self.device).float()


def _free_memory() -> int:
    """Return the bytes of GPU memory that are free, or kept by this process for new tensors."""
    kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(torch.cuda.mem_get_info()[0]) + kept


@dataclass(frozen=True)
class ClipWindows:
    """Windows that cover whole clips, those of one clip next to each other.

    Attributes:
        clips: Index of each window's clip, shape (windows,).
        offsets: First frame of each window within its clip, shape (windows,).
        bounds: Index of each clip's first window, and the total at the end, shape (clips + 1,).
    """

    clips: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int64]

    def to_device(self, device: torch.device) -> "DeviceWindows":
        """Send the places of the windows."""
        return DeviceWindows(
            *(torch.from_numpy(each).to(device) for each in (self.clips, self.offsets))
        )


class DeviceWindows(NamedTuple):
    """Places of windows on a device.

    Attributes:
        clips: Index of each window's clip, shape (windows,).
        offsets: First frame of each window within its clip, shape (windows,).
    """

    clips: Tensor
    offsets: Tensor


def covering_windows(lengths: npt.NDArray[np.int64], frames: int, hop: int) -> ClipWindows:
    """Lay windows over clips: every ``hop`` frames, the last one ending where the clip ends.

    ``lengths`` are in frames, shape (clips,). A clip shorter than a window has one that extends
    past its end.
    """
    counts = 1 + -(-np.maximum(lengths - frames, 0) // hop)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    clips = np.repeat(np.arange(len(lengths)), counts)
    position = np.arange(bounds[-1]) - bounds[clips]
    last = np.maximum(lengths - frames, 0)[clips]
    return ClipWindows(clips, np.minimum(position * hop, last), bounds)


class WindowOutputs(NamedTuple):
    """What a network says of windows.

    Attributes:
        logits: float32, shape (windows, instruments).
        silent: Whether a window has nothing above the floor, shape (windows,).
    """

    logits: Tensor
    silent: Tensor

    def scores(self) -> npt.NDArray[np.float32]:
        """Scores from 0 to 1, shape (windows, instruments); those of silent windows are 0."""
        scores = self.logits.sigmoid().masked_fill(self.silent[:, None], 0)
        found: npt.NDArray[np.float32] = scores.cpu().numpy()
        return found

    def of_clips(self, windows: ClipWindows, rule: AggregationRule) -> npt.NDArray[np.float32]:
        """Scores of the clips that the windows cover, shape (clips, instruments)."""
        return aggregate(self.scores(), windows.bounds, rule)


@torch.no_grad()
def score_windows(
    network: nn.Module,
    standardise: Standardise,
    resident: DeviceClips,
    windows: DeviceWindows,
    frames: int,
    features: LogMelSettings,
) -> WindowOutputs:
    """Apply a network, in evaluation mode, to windows of clips with these features.

    It copies nothing between host and device and asks the device nothing, if the clips are on it.

    Returns:
        Its outputs, on the device.
    """
    network.eval()
    parts: list[Tensor] = []
    silent: list[Tensor] = []
    clips, offsets = windows
    for some_clips, some_offsets in zip(
        clips.split(SCORED_AT_ONCE), offsets.split(SCORED_AT_ONCE), strict=True
    ):
        mel, inside = resident.windows(some_clips, some_offsets, frames)
        mel = mel.masked_fill(~inside[:, :, None], features.log_floor)
        parts.append(network(standardise(mel)).float())
        silent.append(mel.amax(dim=(1, 2)) <= features.silence)
    return WindowOutputs(torch.cat(parts), torch.cat(silent))

"""Statistics of batch normalisation that clips of a user have a share in."""

import copy

import numpy as np
import torch
from torch import nn

from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips
from irmas_dist.models.cnn import CNN
from irmas_dist.models.standardise import Standardise
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.windows import ClipWindows, DeviceClips, covering_windows

CPU = torch.device("cpu")
BATCH_WINDOWS = 256
"""Largest number of windows whose statistics are taken together."""


def audible_windows(description: ModelDescription, clips: Clips) -> ClipWindows:
    """Return the windows of clips in which there is sound, in a random order.

    Raises:
        IrmasError: There is none.
    """
    shape, floor = description.windows, description.features.silence
    windows = covering_windows(clips.lengths, shape.frames, shape.hop_frames)
    order = np.random.default_rng(0).permutation(len(windows.clips))
    starts = clips.starts[windows.clips[order]] + windows.offsets[order]
    lengths = np.minimum(shape.frames, clips.lengths[windows.clips[order]] - windows.offsets[order])
    audible = [
        bool((clips.frames[start : start + length] > floor).any())
        for start, length in zip(starts, lengths, strict=True)
    ]
    if not any(audible):
        raise IrmasError("nothing is audible in the clips to adapt to")
    kept = order[audible]
    return ClipWindows(windows.clips[kept], windows.offsets[kept], windows.bounds)


@torch.no_grad()
def mix_statistics(
    description: ModelDescription, network: CNN, clips: Clips, windows: ClipWindows, share: float
) -> bool:
    """Give windows a share, from 0 to 1, in the statistics of batch normalisation.

    The network is changed. Returns False where it has no such layers, or the share is 0.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms or not share:
        return False
    trained = [copy.deepcopy(norm.state_dict()) for norm in norms]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # The mean over all batches.
        norm.train()
    resident = DeviceClips(clips, CPU)
    normalisation = description.normalisation
    standardise = Standardise(normalisation.mean, normalisation.std)
    # As large as each other, for each counts alike.
    count = -(-len(windows.clips) // BATCH_WINDOWS)
    for part in np.array_split(np.arange(len(windows.clips)), count):
        mel, inside = resident.windows(
            torch.from_numpy(windows.clips[part]),
            torch.from_numpy(windows.offsets[part]),
            description.windows.frames,
        )
        network(standardise(mel.masked_fill(~inside[:, :, None], description.features.log_floor)))
    for norm, momentum, before in zip(norms, momenta, trained, strict=True):
        for name, value in norm.state_dict().items():
            if value.is_floating_point() and name.startswith("running"):
                value.lerp_(before[name], 1 - share)
        norm.momentum = momentum
    network.eval()
    return True

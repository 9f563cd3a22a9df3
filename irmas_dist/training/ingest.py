"""How training clips reach the device: resident, or streamed in pools.

*Resident* clips lie in one array, once per node, and form a single pool. *Streamed* clips are
read from the store's shards by Ray Data in every epoch, in another order each time, and arrive in
pools of a few thousand clips; examples are planned and mixed within a pool. With a pool as large
as the store, both give the same batches.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from irmas_dist.features.clips import Clips, StreamedClips
from irmas_dist.training.windows import DeviceClips


class ClipLoader:
    """The training clips of each epoch, pool by pool.

    Args:
        clips: The clips, in memory or in their store.
        seed: Of the order in which shards are read.
        device: Where batches are made.

    Attributes:
        sizes: Number of clips in each pool of an epoch.
    """

    def __init__(self, clips: Clips | StreamedClips, seed: int, device: torch.device) -> None:
        self._clips, self._seed, self._device = clips, seed, device
        pools = 1
        if isinstance(clips, Clips):
            self._resident = DeviceClips(clips, device)
        else:
            pools = math.ceil(len(clips) / clips.pool_clips)
        self.sizes = np.diff(np.arange(pools + 1) * len(clips) // pools).tolist()

    def epoch(self, number: int) -> Iterator[DeviceClips]:
        """Yield the pools of an epoch; each clip is in one of them."""
        if isinstance(self._clips, Clips):
            yield self._resident
            return
        # Imported here: resident clips need no Ray.
        from irmas_dist.training.streaming import stream

        order = np.random.default_rng([self._seed, number])
        for clips in _prefetch(stream(self._clips, self.sizes, order)):
            yield DeviceClips(clips, self._device)


def _prefetch(pools: Iterator[Clips]) -> Iterator[Clips]:
    """Yield pools while the next one is read in another thread."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, pools, None)
        while (pool := following.result()) is not None:
            following = reader.submit(next, pools, None)
            yield pool

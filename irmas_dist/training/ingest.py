"""How training clips reach the device: resident, or streamed in pools.

*Resident* clips lie in one array, once per node, and form a single pool. *Streamed* clips are
read from the store's shards by Ray Data in every epoch, in another order each time, and arrive in
pools of a few thousand clips; examples are planned and mixed within a pool. Of several stores,
each pool has an equal share, or all of one that is small beside it. With a pool as large as all of
them, both give the same batches.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat

import numpy as np
import torch

from irmas_dist.features.clips import Clips, StreamedClips, joined
from irmas_dist.training.sampling import StoreWeights
from irmas_dist.training.steps import PlannedSteps
from irmas_dist.training.windows import DeviceClips

Plan = Callable[[Clips, int, int, int], PlannedSteps]
"""Plans the steps of a pool: of these clips, in this epoch, the pool's number in it, with rows for
at least so many sources."""

Pool = tuple[Clips, PlannedSteps]


class ClipLoader:
    """The training clips and planned steps of each epoch, pool by pool.

    Args:
        clips: The clips, in memory or in their stores.
        seed: Of the order in which shards are read.
        device: Where batches are made.
        stores: How often the clips of each store are drawn; None for a single store.

    Attributes:
        pools: The clips of each store in each pool of an epoch.
        resident: The clips on the device, unless they are streamed.
    """

    def __init__(
        self,
        clips: Clips | StreamedClips,
        seed: int,
        device: torch.device,
        stores: StoreWeights | None = None,
    ) -> None:
        self._clips, self._seed, self._device = clips, seed, device
        self.resident = DeviceClips(clips, device) if isinstance(clips, Clips) else None
        pools = 1
        if isinstance(clips, StreamedClips):
            pools = clips.pools
        self._stores = stores or StoreWeights.of_one(len(clips))
        self.pools = self._stores.divided(pools)
        self._planner = ThreadPoolExecutor(1)
        self._planned: dict[int, Future[PlannedSteps]] = {}
        self._capacity = 0

    def epoch(
        self, number: int, plan: Plan, *, plan_ahead: bool
    ) -> Iterator[tuple[DeviceClips, PlannedSteps]]:
        """Yield the pools of an epoch and their steps, see `StoreWeights.divided`.

        ``plan`` plans the steps of a pool. It is not kept: it may be a method of what has this
        loader, whose memory on a GPU a reference cycle would hold.

        With ``plan_ahead`` the steps of the next epoch are planned in a thread once the caller
        has launched those of this one: on a GPU they still run then, and need no Python.
        """
        if self.resident is not None:
            clips = self.resident.clips
            yield self.resident, self._planned_epoch(clips, number, plan)
            if plan_ahead:
                self._planned[number + 1] = self._planner.submit(
                    plan, clips, number + 1, 0, self._capacity
                )
            return
        streams = [self._stream(index, number) for index in range(len(self._stores.counts))]
        pools = enumerate(joined(several) for several in zip(*streams, strict=True))
        planned = ((clips, plan(clips, number, index, 0)) for index, clips in pools)
        for clips, steps in _prefetch(planned):
            yield DeviceClips(clips, self._device), steps

    def _stream(self, store: int, epoch: int) -> Iterator[Clips]:
        """Yield what each pool of an epoch has of a store."""
        # Imported here: resident clips need no Ray.
        from irmas_dist.training.streaming import stream

        assert isinstance(self._clips, StreamedClips)
        streamed = self._clips.stores[store]
        order = np.random.default_rng([self._seed, epoch, *([store] if store else [])])
        sizes = [pool.counts[store] for pool in self.pools]
        if sum(sizes) == self._stores.counts[store]:
            return stream(streamed, sizes, order)
        return repeat(next(stream(streamed, sizes[:1], order)), len(sizes))

    def _planned_epoch(self, clips: Clips, number: int, plan: Plan) -> PlannedSteps:
        ahead = self._planned.pop(number, None)
        steps = ahead.result() if ahead else plan(clips, number, 0, self._capacity)
        # Rows of the same width in all epochs, where possible: graphs are captured for it.
        self._capacity = max(self._capacity, steps.layout.sources)
        self._planned.clear()
        return steps


def _prefetch(pools: Iterator[Pool]) -> Iterator[Pool]:
    """Yield pools while the next one is read in another thread."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, pools, None)
        while (pool := following.result()) is not None:
            following = reader.submit(next, pools, None)
            yield pool

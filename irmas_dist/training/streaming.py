"""Reading a store's shards with Ray Data, for stores that are larger than memory."""

import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from irmas_dist import storage
from irmas_dist.features.clips import Clips, StreamedClips, clips_of
from irmas_dist.features.store import StoreInfo, read_info

RESIDENT_SHARE = 0.5
"""Features are held in memory when they take up to this share of Ray's object store."""

READERS = 2
"""Shards that are read at a time for each worker."""

OBJECT_STORE_SHARE = 0.3
"""What Ray's object store takes of the machine's memory when it is not told otherwise."""


def fits_in_memory(info: StoreInfo) -> bool:
    """Return whether the smallest node can hold a store's features and still do other work."""
    if ray.is_initialized():
        rooms = [
            node["Resources"].get("object_store_memory", 0.0)
            for node in ray.nodes()
            if node["Alive"]
        ]
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        rooms = [OBJECT_STORE_SHARE * memory]
    size = info.frames * info.settings.bands * np.dtype(info.settings.dtype).itemsize
    return bool(size <= RESIDENT_SHARE * min(rooms))


def stream(
    streamed: StreamedClips, sizes: list[int], order: np.random.Generator
) -> Iterator[Clips]:
    """Read the shards in a random order and yield clips in pools.

    Args:
        streamed: Which clips of which store.
        sizes: Number of clips in each pool, all of them together.
        order: Where the order of the shards comes from.
    """
    names = read_info(streamed.location).shards
    places = [storage.join(streamed.location, names[i]) for i in order.permutation(len(names))]
    # Not `read_parquet`, whose listing of files takes a CPU: the training workers may hold all.
    shards = ray.data.from_items(
        [{"place": place} for place in places], override_num_blocks=len(places)
    )
    dataset = shards.map_batches(
        _read_shard,
        batch_format="pyarrow",
        batch_size=1,
        fn_kwargs={"wanted": pa.array(sorted(streamed.clip_ids))},
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=READERS),
    )
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    remaining = iter(sizes)
    pool: list[pa.Table] = []
    need = next(remaining)
    for rows in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        while rows.num_rows:
            pool.append(rows.slice(0, need))
            rows = rows.slice(need)
            need -= pool[-1].num_rows
            if need == 0:
                yield clips_of(pool, streamed.features)
                pool, need = [], next(remaining, 0)


def _read_shard(batch: pa.Table, wanted: pa.Array) -> pa.Table:
    """The wanted clips of the one shard that a batch names."""
    table = storage.read_table(batch.column("place")[0].as_py())
    return table.filter(pc.is_in(table.column("clip_id"), wanted)).replace_schema_metadata()

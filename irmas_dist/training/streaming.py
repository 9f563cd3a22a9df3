"""Reads a store's shards with Ray Data, for stores that are larger than memory."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import Clips, StreamedStore, clips_of
from irmas_dist.features.store import read_info

READERS = 2
"""Shards that are read at a time for each worker."""


def stream(
    streamed: StreamedStore, sizes: list[int], order: np.random.Generator
) -> Iterator[Clips]:
    """Read the shards in a random order and yield their clips in pools of the given sizes.

    Raises:
        IrmasError: The store is not the one any more that the clips were chosen from.
    """
    info = read_info(streamed.location)
    if info.identity != streamed.identity:
        raise IrmasError(
            f"{streamed.location} was extracted again while it is learnt: train a new model with it"
        )
    names = [info.shards[index] for index in order.permutation(len(info.shards))]
    paths = [storage.join(streamed.location, name) for name in names]
    # Not `read_parquet`: its listing of files takes a CPU, and the workers may hold all of them.
    shards = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths))
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
    missing = next(remaining)
    for rows in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        while rows.num_rows:
            pool.append(rows.slice(0, missing))
            rows = rows.slice(missing)
            missing -= pool[-1].num_rows
            if missing == 0:
                yield clips_of(pool, info.settings).with_columns(streamed.columns)
                pool, missing = [], next(remaining, 0)


def _read_shard(batch: pa.Table, wanted: pa.Array) -> pa.Table:
    """Return the wanted clips of the shard whose path is the batch's single row."""
    table = storage.read_table(batch.column("path")[0].as_py())
    return table.filter(pc.is_in(table.column("clip_id"), wanted)).replace_schema_metadata()

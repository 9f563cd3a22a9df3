"""Prediction with Ray Data: a pool of actors, each of which keeps the model in memory."""

import os
import pickle
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from irmas_dist import storage
from irmas_dist.inference.audio_inputs import Prediction, predict_file
from irmas_dist.inference.predictor import Predictor

FILES_PER_BLOCK = 16
"""Maximum number of files in a block, which is repeated when a node dies."""


def predict_with_actors(
    model: str,
    paths: Sequence[str],
    *,
    actors: int | None = None,
    address: str | None = None,
    timeline: bool = False,
) -> Generator[Prediction]:
    """Predict files on all nodes of a Ray cluster, or in several processes of this machine.

    Args:
        model: Path or URL of the model directory, which every node must see, as it must the files.
        paths: Paths or URLs of the files.
        actors: Number of actors, with one core each; None: the number of cores.
        address: The Ray to use, as `ray_running` takes it.
        timeline: Whether to return scores over time.

    Yields:
        Predictions, in the order in which they are made.

    Raises:
        IrmasError: There is no such cluster, or a node does not see the files.
    """
    if not paths:
        return
    # Here, because they take seconds to import, and most predictions need no Ray.
    import ray.data

    from irmas_dist.cluster.resources import cpu_count
    from irmas_dist.cluster.runtime import ray_running, require_shared

    with ray_running(address):
        local = (path for path in paths if not storage.is_url(path))
        require_shared(None, model, *filter(os.path.exists, local))
        ray.data.DataContext.get_current().enable_progress_bars = False
        cores = cpu_count()
        size = min(actors or cores, cores, len(paths))
        blocks = max(-(-len(paths) // FILES_PER_BLOCK), min(4 * size, len(paths)))
        tables = [
            # As bytes, since a name need not be UTF-8.
            pa.table(
                {
                    "path": [os.fsencode(storage.absolute(path)) for path in named],
                    "named": [os.fsencode(path) for path in named],
                }
            )
            for named in np.array_split(paths, blocks)
        ]
        rows = ray.data.from_blocks(tables).map_batches(
            _PredictionActor,
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=size),
            fn_constructor_kwargs={"model": storage.absolute(model), "timeline": timeline},
        )
        for row in rows.iter_rows():
            yield pickle.loads(row["prediction"])


class _PredictionActor:
    def __init__(self, model: str, timeline: bool) -> None:
        # An actor holds a core and no GPU.
        self._predictor = Predictor.load(model, device="cpu")
        self._timeline = timeline

    def __call__(self, block: pa.Table) -> pa.Table:
        predictions = (
            replace(
                predict_file(self._predictor, os.fsdecode(row["path"]), self._timeline),
                path=os.fsdecode(row["named"]),
            )
            for row in block.to_pylist()
        )
        return pa.table({"prediction": [pickle.dumps(each) for each in predictions]})

"""Prediction with Ray Data: a pool of actors, each of which keeps the model in memory.

Without GPUs an actor reads and scores files on one core. On a cluster with GPUs, tasks on the CPUs
read files, and an actor on each GPU scores what they have read, so that neither waits for the
other.
"""

import os
import pickle
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from irmas_dist import storage
from irmas_dist.cluster.without_ray import gpu_count
from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import AudioError, IrmasError, last_line
from irmas_dist.inference.audio_inputs import (
    Prediction,
    as_prediction,
    predict_file,
    reopenable,
)
from irmas_dist.inference.predictor import Predictor, Spectrogram, read_spectrogram
from irmas_dist.training.model_description import read_description

if TYPE_CHECKING:
    from ray.data import Dataset

SCORER_GPUS = 1.0
"""GPUs of an actor that scores."""

SCORED_FILES = 128
"""Files that are scored at a time; what was read of them waits in memory."""

FILES_PER_BLOCK = 64
"""Maximum number of files in a block, which is repeated when a node dies. A block costs Ray some
10 ms, a file of 3 s two."""


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
        actors: Number of cores on which files are read; None: all.
        address: The Ray to use, as `ray_running` takes it.
        timeline: Whether to return scores over time.

    Yields:
        Predictions, in the order in which they are made.

    Raises:
        IrmasError: There is no such cluster, a node does not see the files, or an actor cannot
            load the model, or use the GPU that it has.
    """
    if not paths:
        return
    # Here, because they take seconds to import, and most predictions need no Ray.
    import ray.data
    from ray.exceptions import RayActorError

    from irmas_dist.cluster.resources import wait_for_core
    from irmas_dist.cluster.runtime import ray_running, require_shared

    with ray_running(address):
        local = (path for path in paths if not storage.is_url(path))
        require_shared(None, model, *filter(os.path.exists, local))
        ray.data.DataContext.get_current().enable_progress_bars = False
        dataset = ray.data.from_blocks(_blocks(paths, size := _size(paths, actors)))
        gpus = int(gpu_count())
        wait_for_core(SCORER_GPUS if gpus else 0)
        rows = _predicted(dataset, model, timeline, size, gpus)
        try:
            for row in rows.iter_rows():
                yield pickle.loads(row["prediction"])
        except RayActorError as error:
            # Its own error is at the end of a traceback.
            reason = last_line(error)
            raise IrmasError(f"an actor that predicts has died: {reason}") from error


def _predicted(dataset: "Dataset", model: str, timeline: bool, size: int, gpus: int) -> "Dataset":
    """Return the dataset of the predictions, made on ``size`` cores and all of the GPUs."""
    from ray.data import ActorPoolStrategy, TaskPoolStrategy

    made_by = {"model": storage.absolute(model), "timeline": timeline}
    options = {"batch_size": None, "batch_format": "pyarrow"}
    if not gpus:
        return dataset.map_batches(
            _PredictionActor,
            **options,
            num_cpus=1,
            compute=ActorPoolStrategy(size=size),
            fn_constructor_kwargs=made_by,
        )
    read = dataset.map_batches(
        _read,
        **options,
        num_cpus=1,
        compute=TaskPoolStrategy(size=size),
        fn_kwargs={"settings": read_description(model).features},
    )
    return read.map_batches(
        _Scorer,
        **options | {"batch_size": SCORED_FILES},
        num_cpus=0,
        num_gpus=SCORER_GPUS,
        compute=ActorPoolStrategy(size=gpus),
        # It reserves no core: where torch cannot use the GPU, that is an error.
        fn_constructor_kwargs=made_by | {"device": "cuda" if SCORER_GPUS else "cpu"},
    )


def _size(paths: Sequence[str], actors: int | None) -> int:
    """Return how many blocks are worked on at a time."""
    from irmas_dist.cluster.resources import cpu_count

    cores = cpu_count()
    return min(actors or cores, cores, len(paths))


def _blocks(paths: Sequence[str], size: int) -> list[pa.Table]:
    """Return the files in blocks, some for each of ``size`` that are worked on at a time."""
    blocks = max(-(-len(paths) // FILES_PER_BLOCK), min(4 * size, len(paths)))
    return [
        # As bytes, since a name need not be UTF-8.
        pa.table(
            {
                "path": [os.fsencode(storage.absolute(path)) for path in named],
                "named": [os.fsencode(path) for path in named],
            }
        )
        for named in np.array_split(paths, blocks)
    ]


class _PredictionActor:
    """Reads and scores files on one core."""

    def __init__(self, model: str, timeline: bool) -> None:
        # An actor holds a core and no GPU.
        self._predictor = Predictor.load(model, device="cpu")
        self._timeline = timeline

    def __call__(self, block: pa.Table) -> pa.Table:
        return _as_table(
            replace(
                predict_file(self._predictor, os.fsdecode(row["path"]), self._timeline),
                path=os.fsdecode(row["named"]),
            )
            for row in block.to_pylist()
        )


def _read(block: pa.Table, settings: LogMelSettings) -> pa.Table:
    """Read files on one core, for a `_Scorer`."""

    def read(path: str) -> Spectrogram | str:
        try:
            with reopenable(path) as file:
                return read_spectrogram(file, settings)
        except AudioError as error:
            return str(error)

    found = [pickle.dumps(read(os.fsdecode(row["path"]))) for row in block.to_pylist()]
    return pa.table({"named": block.column("named"), "read": pa.array(found, pa.large_binary())})


class _Scorer:
    """Scores what was read, on a GPU, a block of files at a time."""

    def __init__(self, model: str, timeline: bool, device: str) -> None:
        self._predictor = Predictor.load(model, device=device)
        self._timeline = timeline

    def __call__(self, block: pa.Table) -> pa.Table:
        named = [os.fsdecode(path) for path in block.column("named").to_pylist()]
        read = [pickle.loads(one) for one in block.column("read").to_pylist()]
        usable = [one for one in read if isinstance(one, Spectrogram)]
        scored = iter(self._predictor.timelines(usable))
        return _as_table(
            as_prediction(self._predictor, path, next(scored), self._timeline)
            if isinstance(one, Spectrogram)
            else Prediction(path, error=one)
            for path, one in zip(named, read, strict=True)
        )


def _as_table(predictions: Iterable[Prediction]) -> pa.Table:
    return pa.table({"prediction": [pickle.dumps(each) for each in predictions]})

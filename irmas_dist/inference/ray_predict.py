"""Thousands of files to predictions with Ray Data: actors that each keep the model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from irmas_dist import storage
from irmas_dist.inference.audio_inputs import Prediction, predict
from irmas_dist.inference.predictor import Predictor, Timeline

FILES_AT_ONCE = 16
"""Most files in a block: what is lost, and done again, when a node dies."""

_ROWS = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("codes", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("instruments", pa.list_(pa.string())),
        pa.field("error", pa.string()),
        pa.field("starts", pa.list_(pa.float64())),
        pa.field("ends", pa.list_(pa.float64())),
        pa.field("windows", pa.list_(pa.float32())),
    ]
)


def predict_with_ray(
    model: str,
    paths: Sequence[str],
    *,
    workers: int | None = None,
    address: str | None = None,
    timeline: bool = False,
) -> Iterator[Prediction]:
    """Predict files on all nodes of a Ray cluster, or in several processes of this machine.

    Args:
        model: Path or URL of the model directory; every node must see it, and the files.
        paths: Paths or URLs of the files.
        workers: Processes, of one core each; None for as many as there are cores.
        address: The Ray to use, as `ray_running` takes it.
        timeline: Whether scores over time are kept.

    Yields:
        Predictions, in the order in which they are done.

    Raises:
        IrmasError: There is no such cluster, or a node does not see the files.
    """
    # Here, because they take seconds, and most predictions are made without them.
    import ray
    import ray.data

    from irmas_dist.cluster.resources import cpu_count
    from irmas_dist.cluster.runtime import ray_running, require_shared

    with ray_running(address):
        local = (path for path in paths if not storage.is_url(path))
        require_shared(None, model, *filter(storage.exists, local))
        ray.data.DataContext.get_current().enable_progress_bars = False
        cores = cpu_count()
        count = min(workers or cores, cores, len(paths))
        pieces = np.array_split(
            paths, max(-(-len(paths) // FILES_AT_ONCE), min(4 * count, len(paths)))
        )
        tables = [pa.table({"path": [storage.absolute(path) for path in piece],
                            "named": list(piece)}) for piece in pieces]  # fmt: skip
        rows = ray.data.from_blocks(tables).map_batches(
            _Listener,
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=count),
            fn_constructor_kwargs={"model": storage.absolute(model), "timeline": timeline},
        )
        for row in rows.iter_rows():
            yield _prediction(row)


class _Listener:
    """A process that keeps the model and predicts block by block."""

    def __init__(self, model: str, timeline: bool) -> None:
        self._predictor = Predictor.load(model)
        self._timeline = timeline

    def __call__(self, block: pa.Table) -> pa.Table:
        rows = [
            _row(row["named"], predict(self._predictor, row["path"], self._timeline))
            for row in block.to_pylist()
        ]
        return pa.Table.from_pylist(rows, _ROWS)


def _row(named: str, heard: Prediction) -> dict[str, Any]:
    row: dict[str, Any] = {
        "path": named,
        "codes": list(heard.scores),
        "scores": list(heard.scores.values()),
        "instruments": heard.instruments,
        "error": heard.error,
    }
    if heard.timeline is not None:
        line = heard.timeline
        row |= {"starts": line.starts, "ends": line.ends, "windows": line.windows.ravel()}
    return row


def _prediction(row: dict[str, Any]) -> Prediction:
    scores = dict(zip(list(row["codes"]), map(float, row["scores"]), strict=True))
    line = None
    if row["windows"] is not None:
        line = Timeline(
            codes=tuple(scores),
            starts=np.asarray(row["starts"]),
            ends=np.asarray(row["ends"]),
            windows=np.asarray(row["windows"], np.float32).reshape(-1, len(scores)),
            scores=scores,
        )
    return Prediction(row["path"], scores, list(row["instruments"]), row["error"], line)

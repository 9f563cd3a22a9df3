"""A trial of several workers: a Tune function that drives Ray Train, and pays for it.

Starting the workers takes half a minute a trial. When the scheduler stops such a trial, its
workers are cleared away by a cleaner of Ray's that asks Ray's State API; where that does not
answer they stay, and the sweep waits for ever. So it is asked before anything starts.
"""

import math
from queue import Empty, Queue
from threading import Thread
from typing import Any

from ray import tune

from irmas_dist import storage
from irmas_dist.config.recipe import build_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import read_scores
from irmas_dist.search.sweep_directory import progress_directory
from irmas_dist.search.trial import (
    EPOCH,
    FAILED,
    FINISHED,
    INSTRUMENTS,
    THIS_EPOCH,
    TRIAL,
    instrument_rows,
)
from irmas_dist.training.data import TrainingData
from irmas_dist.training.distributed import train_distributed
from irmas_dist.training.learner import SELECTED_BY
from irmas_dist.training.model_directory import ModelDescription, read_description

POLL_S = 0.2


def distributed_trial(
    config: dict[str, Any],
    task: TrainingData,
    recipe: dict[str, Any],
    progress: str,
    workers: WorkerSettings,
) -> None:
    """Run one trial on several workers, reporting to Tune after every epoch.

    Ray Train keeps its progress where a later driver finds it by the trial's number, and goes
    on from there by itself. The model directory that it writes is the best trial's model.

    Args:
        config: Values by name, and the trial's identity under `TRIAL`.
        task: What to learn.
        recipe: What the values change.
        progress: Where all trials keep their progress.
        workers: How many workers, with what.
    """
    values = {name: value for name, value in config.items() if name != TRIAL}
    place = progress_directory(progress, config[TRIAL]["number"])
    epochs: Queue[dict[str, float]] = Queue()
    outcome: list[ModelDescription | IrmasError] = []
    try:
        settings = build_recipe(recipe, values, "the search space")
    except IrmasError as error:
        tune.report(_failure(error))
        return

    def train() -> None:
        try:
            if storage.exists(storage.join(place, "model.json")):
                outcome.append(read_description(place))
                return
            recorded = settings.model_dump(mode="json")
            outcome.append(train_distributed(task, settings, recorded, place, workers, epochs.put))
        except IrmasError as error:
            outcome.append(error)

    training = Thread(target=train)
    training.start()
    best = -math.inf
    while training.is_alive() or not epochs.empty():
        try:
            metrics = epochs.get(timeout=POLL_S)
        except Empty:
            continue
        best = max(best, metrics[SELECTED_BY])
        if metrics["epoch"] >= settings.training.epochs:
            continue  # The last is told below, with the end: a scheduler would stop it here.
        tune.report(_result(metrics, best) | {FINISHED: False})
    training.join()
    (end,) = outcome or [IrmasError("its training ended without a word")]
    if isinstance(end, IrmasError):
        tune.report(_failure(end))
        return
    validation = read_scores(storage.join(place, "validation.parquet"))
    tune.report(
        _result(end.history[-1], end.scores[SELECTED_BY])
        | {
            FINISHED: True,
            "parameters": end.parameters,
            INSTRUMENTS: instrument_rows(
                validation.labels, validation.scores, end.threshold_array(), end.vocabulary
            ),
            "done": True,
        }
    )


def _failure(error: IrmasError) -> dict[str, Any]:
    return {FAILED: str(error), SELECTED_BY: math.nan, EPOCH: 0, "done": True}


def _result(metrics: dict[str, float], best: float) -> dict[str, Any]:
    return {
        **metrics,
        EPOCH: int(metrics["epoch"]),
        SELECTED_BY: best,
        THIS_EPOCH: metrics[SELECTED_BY],
    }

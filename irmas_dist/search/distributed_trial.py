"""A trial of several workers: a Tune function that drives Ray Train.

Starting the workers takes half a minute a trial. When the scheduler stops such a trial, Ray
removes its workers with the help of Ray's State API; where that does not answer, they stay and
the sweep waits for ever, so the State API is checked before a sweep starts.
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
from irmas_dist.search.sweep_directory import trial_directory
from irmas_dist.search.trial import (
    FINISHED,
    INSTRUMENTS,
    TRIAL,
    epoch_result,
    failure,
    instrument_results,
)
from irmas_dist.training.data import TrainingData
from irmas_dist.training.distributed import train_distributed
from irmas_dist.training.learner import SELECTED_BY
from irmas_dist.training.model_directory import ModelDescription, read_description

POLL_S = 0.2


def distributed_trial(
    config: dict[str, Any],
    data: TrainingData,
    recipe: dict[str, Any],
    root: str,
    workers: WorkerSettings,
) -> None:
    """Run one trial on several workers, and report to Tune after every epoch.

    Ray Train saves checkpoints in the trial's directory, and resumes from them. The model
    directory that it writes there is the trial's model.

    Args:
        config: Values by name, and the trial's identity under `TRIAL`.
        data: The training data.
        recipe: The recipe that the values change.
        root: Path or URL below which all trials save checkpoints.
        workers: Number of workers and resources of each.
    """
    values = {name: value for name, value in config.items() if name != TRIAL}
    directory = trial_directory(root, config[TRIAL]["number"])
    epochs: Queue[dict[str, float]] = Queue()
    outcome: list[ModelDescription | IrmasError] = []
    try:
        settings = build_recipe(recipe, values, "the search space")
    except IrmasError as error:
        tune.report(failure(str(error)))
        return

    def train() -> None:
        try:
            if storage.exists(storage.join(directory, "model.json")):
                outcome.append(read_description(directory))
                return
            recorded = settings.model_dump(mode="json")
            outcome.append(
                train_distributed(data, settings, recorded, directory, workers, epochs.put)
            )
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
            continue  # Reported below, with the model: a scheduler would stop the trial here.
        tune.report(epoch_result(metrics, best, **{FINISHED: False}))
    training.join()
    (end,) = outcome or [IrmasError("its training ended without an error message")]
    if isinstance(end, IrmasError):
        tune.report(failure(str(end)))
        return
    validation = read_scores(storage.join(directory, "validation.parquet"))
    instruments = instrument_results(
        validation.labels, validation.scores, end.threshold_array(), end.vocabulary
    )
    ends = {FINISHED: True, "done": True, "parameters": end.parameters, INSTRUMENTS: instruments}
    tune.report(epoch_result(end.history[-1], end.scores[SELECTED_BY], **ends))

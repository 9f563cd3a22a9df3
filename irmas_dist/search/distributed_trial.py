"""A trial of several workers: a Tune function that drives Ray Train.

Starting the workers of a trial takes half a minute. When the scheduler stops such a trial, Ray
removes its workers through Ray's State API; without it they keep their resources and the sweep
never ends, so the State API is checked before a sweep starts.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from typing import Any

from ray import tune

from irmas_dist import storage
from irmas_dist.config.recipe import build_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError, StoreError
from irmas_dist.evaluation.scores import read_scores
from irmas_dist.models.cnn import CNN, parameter_count
from irmas_dist.search.sweep_directory import trial_directory
from irmas_dist.search.trial import (
    FINISHED,
    INSTRUMENTS,
    TRIAL,
    epoch_result,
    failure,
    instrument_results,
)
from irmas_dist.storage.results import MODEL_FILE, VALIDATION_FILE, holds
from irmas_dist.training.data import TrainingData
from irmas_dist.training.distributed import train_distributed
from irmas_dist.training.learner import SELECTED_BY
from irmas_dist.training.loop import WorkerLostError, latest_history
from irmas_dist.training.model_description import ModelDescription, read_description

POLL_S = 0.2


def distributed_trial(
    config: dict[str, Any],
    data: TrainingData,
    recipe: dict[str, Any],
    root: str,
    workers: WorkerSettings,
) -> None:
    """Run one trial on several workers, and report to Tune after every epoch.

    The trial's directory holds its checkpoints, from which it resumes, and at last its model.

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

    def train() -> ModelDescription:
        if holds(directory, MODEL_FILE):
            return read_description(directory)
        recorded = settings.model_dump(mode="json")
        return train_distributed(data, settings, recorded, directory, workers, epochs.put)

    try:
        settings = build_recipe(recipe, values, "the search space")
        features, instruments = data.store.settings, len(data.store.vocabulary)
        frames = settings.window.frames(features)
        network = CNN(settings.model, features.bands, frames, instruments)
    except IrmasError as error:
        tune.report(failure(str(error)))
        return
    facts = {"parameters": parameter_count(network)}
    resumed = list[dict[str, float]]()
    if config[TRIAL]["resume"]:
        resumed = latest_history(directory)
    else:  # Of an earlier sweep, which is no trial of this one.
        storage.remove_directory(directory)
    training = ThreadPoolExecutor(1).submit(train)
    best, best_epoch = -math.inf, 0
    for earlier in resumed:
        if earlier[SELECTED_BY] > best:
            best, best_epoch = earlier[SELECTED_BY], int(earlier["epoch"])
    reported = 0
    while not (training.done() and epochs.empty()):
        try:
            metrics = epochs.get(timeout=POLL_S)
        except Empty:
            continue
        epoch = int(metrics["epoch"])
        if metrics[SELECTED_BY] > best:
            best, best_epoch = metrics[SELECTED_BY], epoch
        # The last one is reported below, with the model: a scheduler would stop the trial here.
        # After the loss of a worker some are repeated.
        if epoch <= reported or settings.training.ends_after(epoch, best_epoch):
            continue
        reported = epoch
        tune.report(epoch_result(metrics, best, **{FINISHED: False}, **facts))
    try:
        model = training.result()
    except StoreError:  # It is not the trial's fault, and ends the sweep.
        raise
    except (IrmasError, WorkerLostError) as error:
        tune.report(failure(str(error)))
        return
    validation = read_scores(storage.join(directory, VALIDATION_FILE))
    of_instruments = instrument_results(
        validation.labels, validation.scores, model.threshold_array(), model.vocabulary
    )
    ends = {FINISHED: True, "done": True, INSTRUMENTS: of_instruments}
    best = model.history[model.best_epoch - 1][SELECTED_BY]
    tune.report(epoch_result(model.history[-1], best, **ends, **facts))

"""Ray Train around the Learner: two workers train one model."""

import queue
from typing import Any, cast

import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import open_training_data
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.ray_train import WorkerEvents


def test_an_error_while_an_epoch_is_logged_ends_the_training() -> None:
    """Else later epochs, and reasons that workers send, would be lost."""
    events = WorkerEvents.__new__(WorkerEvents)  # Its own queue needs Ray.
    events._queue, events.failure = cast(Any, queue.Queue()), None

    def log(_: object) -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError, match="the terminal is gone"), events.handled(log):
        events.send("epoch", {"epoch": 1})


def test_two_workers_have_the_loss_curve_of_one(
    trained: tuple[str, ModelDescription, Recipe], features: str
) -> None:
    _, description, recipe = trained
    alone = Learner(open_training_data(features, recipe), recipe)
    while not alone.finished:
        alone.run_epoch()
    for ours, theirs in zip(description.history, alone.history, strict=True):
        for name in ("train_loss", "val_loss", "val_label_accuracy", "val_map"):
            assert ours[name] == pytest.approx(theirs[name], rel=0.02), name

"""Ray Train around the Learner: two workers train one model."""

import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import open_training_data
from irmas_dist.training.model_description import ModelDescription


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

"""The Learner learns, is deterministic, and resumes."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from irmas_dist.config.augment import MixSettings
from irmas_dist.config.model import DropoutSettings
from irmas_dist.config.training import LearnerSettings, LossSettings
from irmas_dist.errors import IrmasError
from irmas_dist.training.checkpoint import load_checkpoint, save_checkpoint
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import SELECTED_BY, Learner
from irmas_dist.training.sampling import mixing_alone


def changed(settings: LearnerSettings, section: str, **values: object) -> LearnerSettings:
    part = getattr(settings, section).model_copy(update=values)
    return settings.model_copy(update={section: part})


def test_overfits_one_batch(data: TrainingData, settings: LearnerSettings) -> None:
    few = replace(data, training=data.training.select(list(range(6))))
    plain = settings.model_copy(update={"augment": mixing_alone(MixSettings(counts=(1,)))})
    plain = changed(plain, "training", epochs=60, schedule="constant", warmup_epochs=0.0)
    plain = changed(plain, "training", loss=LossSettings(smoothing=0.0))
    learner = Learner(few, without_dropout(plain))
    losses = [learner.train_epoch()["train_loss"] for _ in range(60)]
    assert losses[-1] < 0.02 < losses[0]


def test_learns_to_distinguish_instruments(data: TrainingData, settings: LearnerSettings) -> None:
    learner = Learner(data, changed(settings, "training", epochs=25))
    while not learner.finished:
        learner.run_epoch()
    best = learner.history[learner.best_epoch - 1]
    assert best[SELECTED_BY] > 0.9
    assert best["val_label_accuracy"] > 0.8


EVERYTHING = {
    "loss": LossSettings(kind="asymmetric", balance=0.5, smoothing=0.1),
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "schedule": "plateau",
    "plateau_epochs": 1,
    "ema": 0.9,
    "accumulate": 2,
    "on_nan": "skip",
}
"""Settings of the optimisation with everything that has a state."""


def with_everything(settings: LearnerSettings) -> LearnerSettings:
    normalised = changed(settings, "model", normalisation="batch", residual=True)
    return changed(normalised, "training", **EVERYTHING)


@pytest.mark.parametrize("richer", [lambda plain: plain, with_everything])
def test_the_same_seed_gives_the_same_run_bit_for_bit(
    data: TrainingData,
    settings: LearnerSettings,
    richer: Callable[[LearnerSettings], LearnerSettings],
) -> None:
    runs = []
    for _ in range(2):
        learner = Learner(data, richer(settings))
        learner.run_epoch()
        learner.run_epoch()
        runs.append((learner.history, learner.network.state_dict(), learner.best_weights))
    assert runs[0][0] == runs[1][0]
    for first, second in zip(runs[0][1:], runs[1][1:], strict=True):
        for name, value in first.items():
            assert torch.equal(value, second[name])


def test_another_seed_gives_another_run(data: TrainingData, settings: LearnerSettings) -> None:
    losses = [
        Learner(data, settings.model_copy(update={"seed": seed})).train_epoch()["train_loss"]
        for seed in (0, 1)
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("richer", [lambda plain: plain, with_everything])
def test_a_resumed_training_equals_an_uninterrupted_one(
    data: TrainingData,
    settings: LearnerSettings,
    richer: Callable[[LearnerSettings], LearnerSettings],
    tmp_path: Path,
) -> None:
    uninterrupted = Learner(data, richer(settings))
    while not uninterrupted.finished:
        uninterrupted.run_epoch()

    interrupted = Learner(data, richer(settings))
    interrupted.run_epoch()
    interrupted.run_epoch()
    save_checkpoint(tmp_path, interrupted)
    resumed = Learner(data, richer(settings))
    load_checkpoint(tmp_path, resumed)
    while not resumed.finished:
        resumed.run_epoch()
    assert resumed.history == uninterrupted.history
    for name, value in uninterrupted.best_weights.items():
        assert torch.equal(value, resumed.best_weights[name])


def test_the_saved_weights_are_those_that_were_validated(
    data: TrainingData, settings: LearnerSettings
) -> None:
    learner = Learner(data, with_everything(settings))
    while not learner.finished:
        learner.run_epoch()
    learner.restore_best()
    restored = learner.network.state_dict()
    assert all(torch.equal(restored[name], value) for name, value in learner.best_weights.items())
    assert learner.validate() == {
        name: value
        for name, value in learner.history[learner.best_epoch - 1].items()
        if name.startswith("val_")
    }


@pytest.mark.parametrize("parts", [2, 3, 20])
def test_accumulated_parts_are_equivalent_to_the_whole_step(
    data: TrainingData, settings: LearnerSettings, parts: int
) -> None:
    """Without batch statistics and dropout, up to rounding."""
    plain = without_dropout(settings)
    losses = []
    for accumulate in (1, parts):
        learner = Learner(data, changed(plain, "training", accumulate=accumulate))
        losses.append([learner.run_epoch()["train_loss"] for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def without_dropout(settings: LearnerSettings) -> LearnerSettings:
    return changed(settings, "model", dropout=DropoutSettings(blocks=0.0, dense=0.0))


def test_patience_ends_training(data: TrainingData, settings: LearnerSettings) -> None:
    learner = Learner(data, changed(settings, "training", epochs=50, lr=1e-9, patience=3))
    while not learner.finished:
        learner.run_epoch()
    assert learner.epoch == learner.best_epoch + 3 < 50


def test_a_loss_that_is_not_finite_says_what_to_change(
    data: TrainingData, settings: LearnerSettings
) -> None:
    learner = Learner(data, settings)
    with torch.no_grad():
        learner.network.layers[0].weight.fill_(math.nan)
    with pytest.raises(
        IrmasError, match=r"became nan or infinite in epoch 1; .*training\.lr=0\.005"
    ):
        learner.train_epoch()


def poison(learner: Learner, *steps: int) -> None:
    """Make the examples of these steps, counted from 0, NaN."""
    mixer, count = learner._step._mixer, itertools.count()

    def poisoned(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        mel, labels = mixer(*arguments)
        return mel * (math.nan if next(count) in steps else 1.0), labels

    learner._step._mixer = poisoned  # type: ignore[assignment]


def test_steps_that_are_not_finite_are_skipped_on_request(
    data: TrainingData, settings: LearnerSettings
) -> None:
    settings = changed(settings, "training", on_nan="skip", ema=0.9)
    learner = Learner(data, changed(settings, "model", normalisation="batch"))
    poison(learner, 1, 4)
    metrics = learner.run_epoch()
    assert metrics["train_skipped"] == 2
    assert math.isfinite(metrics["train_loss"])
    assert math.isfinite(metrics["val_loss"])
    for network in learner._optimisation.networks:
        assert all(value.isfinite().all() for value in network.state_dict().values())


def test_too_many_skipped_steps_stop_with_a_clear_error(
    data: TrainingData, settings: LearnerSettings
) -> None:
    learner = Learner(data, changed(settings, "training", on_nan="skip", batch_size=1))
    poison(learner, *range(100))
    with pytest.raises(IrmasError, match=r"48 steps in a row had to be skipped in epoch 1.*lr=0"):
        learner.train_epoch()

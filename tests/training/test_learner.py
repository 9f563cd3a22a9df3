"""The Learner learns, repeats itself, and goes on where it was."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from irmas_dist.errors import IrmasError
from irmas_dist.training.augment import AugmentSettings, MixSettings
from irmas_dist.training.checkpoint import load_progress, save_progress
from irmas_dist.training.learner import SELECTED_BY, Learner, LearnerSettings, computes_in_bfloat16
from irmas_dist.training.task import Task


def changed(settings: LearnerSettings, room: str, **values: object) -> LearnerSettings:
    part = getattr(settings, room).model_copy(update=values)
    return settings.model_copy(update={room: part})


def test_overfits_one_batch(task: Task, settings: LearnerSettings) -> None:
    few = replace(task, training=task.training.select(list(range(6))))
    plain = settings.model_copy(
        update={"augment": AugmentSettings(mix=MixSettings(counts=(1,)), gain_db=0.0)}
    )
    plain = changed(plain, "training", epochs=60, schedule="constant", warmup_epochs=0.0)
    plain = changed(plain, "model", dropout=plain.model.dropout.model_copy(
        update={"blocks": 0.0, "dense": 0.0}))  # fmt: skip
    learner = Learner(few, plain)
    losses = [learner.train_epoch()["train_loss"] for _ in range(60)]
    assert losses[-1] < 0.02 < losses[0]


def test_learns_the_task(task: Task, settings: LearnerSettings) -> None:
    learner = Learner(task, changed(settings, "training", epochs=25))
    while not learner.finished:
        learner.run_epoch()
    best = learner.history[learner.best_epoch - 1]
    assert best[SELECTED_BY] > 0.9
    assert best["val_label_accuracy"] > 0.8


def test_repeats_itself_bit_for_bit(task: Task, settings: LearnerSettings) -> None:
    runs = []
    for _ in range(2):
        learner = Learner(task, settings)
        learner.run_epoch()
        runs.append((learner.history, learner.network.state_dict()))
    assert runs[0][0] == runs[1][0]
    for name, value in runs[0][1].items():
        assert torch.equal(value, runs[1][1][name])


def test_another_seed_is_another_run(task: Task, settings: LearnerSettings) -> None:
    losses = [
        Learner(task, settings.model_copy(update={"seed": seed})).train_epoch()["train_loss"]
        for seed in (0, 1)
    ]
    assert losses[0] != losses[1]


def test_goes_on_from_a_checkpoint_as_if_nothing_had_happened(
    task: Task, settings: LearnerSettings, tmp_path: Path
) -> None:
    undisturbed = Learner(task, settings)
    while not undisturbed.finished:
        undisturbed.run_epoch()

    cut_short = Learner(task, settings)
    cut_short.run_epoch()
    cut_short.run_epoch()
    save_progress(tmp_path, cut_short)
    resumed = Learner(task, settings)
    load_progress(tmp_path, resumed)
    while not resumed.finished:
        resumed.run_epoch()
    assert resumed.history == undisturbed.history
    for name, value in undisturbed.best_weights.items():
        assert torch.equal(value, resumed.best_weights[name])


def test_workers_gradients_add_up_to_the_whole_batchs(
    task: Task, settings: LearnerSettings
) -> None:
    """Two halves of a step, averaged as DDP does, are the step of one worker."""
    settings = changed(settings, "model", dropout=settings.model.dropout.model_copy(
        update={"blocks": 0.0, "dense": 0.0}))  # fmt: skip
    gradients = []
    for workers in (1, 2):
        total = None
        for rank in range(workers):
            learner = Learner(task, settings, rank=rank, workers=workers)
            seen: list[np.ndarray] = []
            learner._optimizer.step = lambda *args, at=learner, out=seen: out.append(
                torch.cat([p.grad.flatten() for p in at.network.parameters()]).numpy().copy()
            )
            learner._steps, learner._schedule.step = 1, lambda *args: None
            if workers > 1:
                with pytest.raises(ValueError, match="process group"):
                    learner.train_epoch()  # the sums over workers, after the only step
            else:
                learner.train_epoch()
            total = seen[0] / workers + (0 if total is None else total)
        gradients.append(total)
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


def test_patience_ends_training(task: Task, settings: LearnerSettings) -> None:
    learner = Learner(task, changed(settings, "training", epochs=50, lr=1e-9, patience=3))
    while not learner.finished:
        learner.run_epoch()
    assert learner.epoch == learner.best_epoch + 3 < 50


def test_a_loss_that_is_no_number_says_what_to_change(
    task: Task, settings: LearnerSettings
) -> None:
    learner = Learner(task, settings)
    with torch.no_grad():
        learner.network.layers[0].weight.fill_(math.nan)
    with pytest.raises(IrmasError, match=r"the loss became nan in epoch 1; .*training\.lr=0\.005"):
        learner.train_epoch()


@pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("cosine", 0.0)])
def test_learning_rate_rises_and_then_follows_its_schedule(
    task: Task, settings: LearnerSettings, schedule: str, last: float
) -> None:
    learner = Learner(
        task, changed(settings, "training", schedule=schedule, warmup_epochs=1.0, epochs=5)
    )
    steps = learner._steps
    factors = [learner._lr_factor(step) for step in range(5 * steps + 1)]
    assert factors[:steps] == sorted(factors[:steps])
    assert factors[0] < 0.2
    assert factors[steps] == pytest.approx(1.0, abs=0.01)
    assert factors[-1] == pytest.approx(last, abs=1e-9)


def test_bfloat16_is_chosen_only_where_the_device_has_it() -> None:
    capabilities = torch.cpu.get_capabilities()
    native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    assert computes_in_bfloat16(torch.device("cpu")) == native

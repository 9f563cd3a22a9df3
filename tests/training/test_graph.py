"""Steps captured as CUDA graphs train as steps that are taken one by one."""

import gc
import itertools
from pathlib import Path

import pytest
import torch

from irmas_dist.config.training import LearnerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.training.checkpoint import load_checkpoint, save_checkpoint
from irmas_dist.training.data import TrainingData
from irmas_dist.training.learner import Learner
from tests.training.test_learner import changed, with_everything, without_dropout

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def losses(learner: Learner, epochs: int) -> list[float]:
    history = [learner.run_epoch() for _ in range(epochs)]
    return [epoch[name] for epoch in history for name in ("train_loss", "val_loss")]


def with_ibn(settings: LearnerSettings) -> LearnerSettings:
    return changed(settings, "model", normalisation="ibn")


def test_on_a_cpu_steps_are_taken_one_by_one(data: TrainingData, settings: LearnerSettings) -> None:
    assert Learner(data, settings)._graphs is None


def test_a_graph_that_is_asked_for_and_cannot_be_says_what_it_needs(
    data: TrainingData, settings: LearnerSettings
) -> None:
    with pytest.raises(IrmasError, match=r"^training\.graph=on needs a GPU"):
        Learner(data, changed(settings, "training", graph="on"))


@needs_gpu
@pytest.mark.parametrize(
    ("richer", "rounding"),
    [
        (lambda plain: plain, 1e-3),
        (with_everything, 1e-3),
        (lambda plain: changed(plain, "training", batch_size=7), 1e-3),  # steps of two sizes
        (with_ibn, 1e-3),
        (lambda plain: changed(with_ibn(plain), "training", precision="bfloat16"), 1e-2),
    ],
)
def test_the_loss_curve_is_that_of_steps_taken_one_by_one(
    data: TrainingData, settings: LearnerSettings, richer: object, rounding: float
) -> None:
    assert callable(richer)
    plain = changed(without_dropout(richer(settings)), "training", epochs=6)
    curves = []
    for graph in ("on", "off"):
        learner = Learner(data, changed(plain, "training", graph=graph), device="cuda")
        curves.append(losses(learner, 6))
        if graph == "on":
            assert learner._graphs is not None
            assert any(step._captured for step in learner._graphs._steps.values())
            assert learner._repeated_validation is not None
            assert learner._repeated_validation._captured
    assert curves[0] == pytest.approx(curves[1], rel=rounding)


@needs_gpu
def test_dropout_draws_anew_in_every_replay(data: TrainingData, settings: LearnerSettings) -> None:
    """With the same examples in every epoch, losses differ only by what dropout hides."""
    learner = Learner(data, changed(settings, "training", graph="on", lr=1e-12), device="cuda")
    curve = losses(learner, 4)[::2]
    assert len(set(curve)) == len(curve)


@needs_gpu
def test_a_resumed_training_is_captured_anew(
    data: TrainingData, settings: LearnerSettings, tmp_path: Path
) -> None:
    settings = changed(without_dropout(settings), "training", graph="on", epochs=6)
    whole = Learner(data, settings, device="cuda")
    expected = losses(whole, 6)
    first = Learner(data, settings, device="cuda")
    losses(first, 3)
    save_checkpoint(tmp_path, first)
    for resumed in (Learner(data, settings, device="cuda"), first):
        load_checkpoint(tmp_path, resumed)
        assert losses(resumed, 3) == pytest.approx(expected[6:], rel=1e-3)


@needs_gpu
def test_a_step_never_waits_for_the_gpu(data: TrainingData, settings: LearnerSettings) -> None:
    learner = Learner(
        data, changed(with_everything(settings), "training", graph="off"), device="cuda"
    )
    learner.train_epoch()
    plan = learner.plan_steps(learner.data.training, 1, 0, 0)  # type: ignore[arg-type]
    rows, rates = plan.to_device(learner.device), learner._optimisation.rates(len(plan.sizes))
    rates, pool = rates.to(learner.device), learner._loader.resident
    assert pool is not None
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps = zip(rows, rates, plan.sizes, plan.sources, strict=True)
        for row, rate, size, sources in itertools.islice(steps, 3):
            learner._step(pool, row, rate, plan, size, sources)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
def test_a_learner_that_is_let_go_leaves_its_memory(
    data: TrainingData, settings: LearnerSettings
) -> None:
    """With its graphs, and without Python's garbage collection, which nobody waits for."""
    gc.disable()
    try:
        left = []
        for _ in range(3):
            learner = Learner(data, changed(settings, "training", graph="on"), device="cuda")
            losses(learner, 5)
            del learner
            torch.cuda.empty_cache()
            left.append(torch.cuda.memory_reserved())
    finally:
        gc.enable()
    assert left[1] == left[2]

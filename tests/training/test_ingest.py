"""Resident and streaming ingest give the same data for the same seed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import LearnerSettings, WorkerSettings
from irmas_dist.training.data import TrainingData
from irmas_dist.training.ingest import ClipLoader
from irmas_dist.training.learner import Learner
from irmas_dist.training.steps import PlannedSteps
from irmas_dist.training.train import train
from tests.training.conftest import load

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def untracked(recipe: Recipe) -> Recipe:
    return build_recipe(recipe.model_dump(), {"tracking.mode": "disabled"}, "the test")


def test_both_give_the_same_model_bit_for_bit_when_one_pool_holds_the_store(
    features: str, untracked: Recipe
) -> None:
    learners = [
        Learner(load(features, untracked, mode), untracked) for mode in ("resident", "streaming")
    ]
    for learner in learners:
        learner.run_epoch()
    assert learners[0].history == learners[1].history
    for ours, theirs in zip(*(one.network.parameters() for one in learners), strict=True):
        assert torch.equal(ours, theirs)


def test_every_clip_is_in_one_pool_of_every_epoch_and_as_stored(
    features: str, untracked: Recipe
) -> None:
    resident = load(features, untracked, "resident").training
    position = {clip: index for index, clip in enumerate(resident.clip_ids)}
    streamed = load(features, untracked, "streaming", pool_clips=25)
    plan_steps = Learner(streamed, untracked).plan_steps
    loader = ClipLoader(streamed.training, 0, CPU)
    sizes = [sum(pool.counts) for pool in loader.pools]
    assert sum(sizes) == len(resident)
    assert max(sizes) <= 25
    orders = []
    for epoch in range(2):
        seen: list[str] = []
        pools = loader.epoch(epoch, plan_steps, plan_ahead=False)
        for size, (pool, plan) in zip(sizes, pools, strict=True):
            clips = pool.clips
            assert sum(step.examples for step in plan.sizes) == size
            assert len(clips) == size
            seen += clips.clip_ids
            for index in (0, size - 1):
                stored = position[clips.clip_ids[index]]
                ours, theirs = (
                    one.frames[one.starts[at] :][: one.lengths[at]]
                    for one, at in ((clips, index), (resident, stored))
                )
                np.testing.assert_array_equal(ours, theirs)
                np.testing.assert_array_equal(clips.labels[index], resident.labels[stored])
        assert sorted(seen) == resident.clip_ids
        orders.append(seen)
    pools = loader.epoch(1, plan_steps, plan_ahead=False)
    again = [clip for pool, _ in pools for clip in pool.clips.clip_ids]
    assert again == orders[1]


def test_an_epoch_of_several_pools_has_as_many_steps_as_planned(
    features: str, untracked: Recipe
) -> None:
    learner = Learner(load(features, untracked, "streaming", pool_clips=25), untracked)
    learner.train_epoch()
    assert learner._optimisation._steps == learner._steps


def test_epochs_planned_ahead_are_those_that_are_planned_when_they_begin(
    data: TrainingData, settings: LearnerSettings
) -> None:
    learner = Learner(data, settings)
    plans: list[list[PlannedSteps]] = []
    for ahead in (True, False):
        loader = ClipLoader(data.training, 0, CPU)
        epochs = (loader.epoch(n, learner.plan_steps, plan_ahead=ahead) for n in range(4))
        plans.append([plan for epoch in epochs for _, plan in epoch])
    for ours, theirs in zip(*plans, strict=True):
        assert ours.layout == theirs.layout
        np.testing.assert_array_equal(ours.rows, theirs.rows)
    assert not np.array_equal(plans[0][0].rows[:, :, :8], plans[0][1].rows[:, :, :8])


def test_rows_never_become_narrower(data: TrainingData, settings: LearnerSettings) -> None:
    """A graph that was captured for an epoch then serves the next ones."""
    loader, plan_steps = ClipLoader(data.training, 0, CPU), Learner(data, settings).plan_steps
    epochs = (loader.epoch(n, plan_steps, plan_ahead=n % 2 == 0) for n in range(12))
    space = [plan.layout.sources for epoch in epochs for _, plan in epoch]
    assert space == sorted(space)


@pytest.mark.drill
def test_two_workers_that_take_every_cpu_can_stream(
    features: str, untracked: Recipe, tmp_path: Path
) -> None:
    streamed = build_recipe(
        untracked.model_dump(), {"ingest.mode": "streaming", "training.epochs": 1}, "the test"
    )
    description = train(streamed, features, str(tmp_path / "m"), WorkerSettings(count=2, cpus=1))
    assert len(description.history) == 1

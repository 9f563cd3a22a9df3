"""Resident and streaming ingest: the same data for the same seed, by two ways."""

from pathlib import Path

import numpy as np
import pytest
import torch

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import IngestSettings, WorkerSettings
from irmas_dist.features.clips import StreamedClips
from irmas_dist.features.store import read_info
from irmas_dist.training import streaming
from irmas_dist.training.data import TrainingData, load_training_data
from irmas_dist.training.ingest import ClipLoader
from irmas_dist.training.learner import Learner
from irmas_dist.training.streaming import fits_in_memory
from irmas_dist.training.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def split(recipe: Recipe) -> Recipe:
    return build_recipe(recipe.model_dump(), {"tracking.mode": "disabled"}, "the test")


def load(features: str, recipe: Recipe, mode: str, pool_clips: int = 4_096) -> TrainingData:
    settings = IngestSettings.model_validate({"mode": mode, "pool_clips": pool_clips})
    return load_training_data(features, recipe.validation, settings)


def test_both_split_the_store_alike(features: str, split: Recipe) -> None:
    resident, streamed = (load(features, split, mode) for mode in ("resident", "streaming"))
    assert isinstance(streamed.training, StreamedClips)
    assert streamed.training.clip_ids == set(resident.training.clip_ids)
    np.testing.assert_array_equal(streamed.validation.frames, resident.validation.frames)
    np.testing.assert_array_equal(streamed.validation.labels, resident.validation.labels)


def test_both_give_the_same_model_bit_for_bit_when_the_pool_holds_the_store(
    features: str, split: Recipe
) -> None:
    learners = [Learner(load(features, split, mode), split) for mode in ("resident", "streaming")]
    for learner in learners:
        learner.run_epoch()
    assert learners[0].history == learners[1].history
    for ours, theirs in zip(*(one.network.parameters() for one in learners), strict=True):
        assert torch.equal(ours, theirs)


def test_every_clip_is_in_one_pool_of_every_epoch_and_as_it_is_stored(
    features: str, split: Recipe
) -> None:
    resident = load(features, split, "resident").training
    where = {clip: index for index, clip in enumerate(resident.clip_ids)}
    pools = ClipLoader(load(features, split, "streaming", pool_clips=25).training, 0, CPU)
    assert sum(pools.sizes) == len(resident)
    assert max(pools.sizes) <= 25
    orders = []
    for epoch in range(2):
        seen: list[str] = []
        for size, pool in zip(pools.sizes, pools.epoch(epoch), strict=True):
            clips = pool.clips
            assert len(clips) == size
            seen += clips.clip_ids
            for index in (0, size - 1):
                stored = where[clips.clip_ids[index]]
                ours, theirs = (
                    one.frames[one.starts[at] :][: one.lengths[at]]
                    for one, at in ((clips, index), (resident, stored))
                )
                np.testing.assert_array_equal(ours, theirs)
                np.testing.assert_array_equal(clips.labels[index], resident.labels[stored])
        assert sorted(seen) == resident.clip_ids
        orders.append(seen)
    again = [clip for pool in pools.epoch(1) for clip in pool.clips.clip_ids]
    assert again == orders[1]


def test_a_network_learns_from_several_pools_with_as_many_steps_as_it_says(
    features: str, split: Recipe
) -> None:
    learner = Learner(load(features, split, "streaming", pool_clips=25), split)
    learner.train_epoch()
    assert learner._optimisation._steps == learner._steps


@pytest.mark.drill
def test_two_workers_that_take_every_cpu_can_stream(
    features: str, split: Recipe, tmp_path: Path
) -> None:
    streamed = build_recipe(
        split.model_dump(), {"ingest.mode": "streaming", "training.epochs": 1}, "the test"
    )
    description = train(streamed, features, str(tmp_path / "m"), WorkerSettings(count=2, cpus=1))
    assert len(description.history) == 1


def test_the_way_is_chosen_by_size_and_memory(
    features: str, split: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fits_in_memory(read_info(features))
    assert not isinstance(load(features, split, "auto").training, StreamedClips)
    monkeypatch.setattr(streaming, "RESIDENT_SHARE", 1e-9)
    assert isinstance(load(features, split, "auto").training, StreamedClips)
    assert not isinstance(load(features, split, "resident").training, StreamedClips)

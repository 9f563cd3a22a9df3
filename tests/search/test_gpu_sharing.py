"""Trials share a GPU as far as its memory and the CPUs beside it allow."""

import re
from collections.abc import Callable

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.cluster.resources import share_of, workers_on
from irmas_dist.config.recipe import Recipe
from irmas_dist.config.sweep import SweepSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.gpu_sharing import (
    Memory,
    memory_of_a_training,
    share_gpus,
    trials_on_a_gpu,
)
from irmas_dist.training.data import TrainingData

GIB = 2**30


@pytest.mark.parametrize(
    ("used", "cpus", "gpus", "options", "trials"),
    [
        (0.1, 16, 1, {"trials": 40}, 16),  # a trial for each CPU
        (0.1, 16, 1, {"trials": 40, "cpus": 2.0}, 8),
        (0.1, 16, 1, {"trials": 4}, 4),
        (0.1, 16, 1, {"trials": 40, "concurrent": 3}, 3),
        (0.1, 16, 4, {"trials": 4}, 1),  # none of the four is idle
        (0.1, 16, 4, {"trials": 40, "concurrent": 6}, 2),
        (10, 16, 1, {"trials": 40}, 3),  # 72 GiB, of which each may take 20 and its context
        (70, 16, 1, {"trials": 40}, 1),
        (0.1, 0.5, 1, {"trials": 40}, 1),
        (0.1, 224, 1, {"trials": 200}, 48),  # what MPS serves
    ],
)
def test_as_many_share_a_gpu_as_memory_cpus_and_trials_allow(
    used: float, cpus: float, gpus: float, options: dict[str, float], trials: int
) -> None:
    settings = SweepSettings.model_validate(options)
    assert trials_on_a_gpu(Memory(int(used * GIB), 80 * GIB), cpus, gpus, settings) == trials


@given(st.integers(1, 200))
def test_ray_finds_space_for_so_many(count: int) -> None:
    assert workers_on({"CPU": 1_000.0, "GPU": 1.0}, 1.0, share_of(count)) >= count
    assert round(share_of(count) * count, 4) <= 1


def test_a_share_given_by_hand_stays(data: TrainingData) -> None:
    """Without asking the cluster: no Ray runs here."""
    settings = SweepSettings(gpus=0.25)
    assert share_gpus(settings, data, Recipe()) is settings


def test_without_gpus_trials_run_on_cpus(ray_cluster: None, data: TrainingData) -> None:
    assert share_gpus(SweepSettings(), data, Recipe()).gpus == 0.0


def test_gpus_that_no_trial_can_use_are_not_waited_for(
    ray_cluster: None, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irmas_dist.search.gpu_sharing.gpu_count", lambda: 1.0)
    with pytest.raises(IrmasError, match=r"^no node has a GPU and 2 CPUs beside it: ask for fewer"):
        share_gpus(SweepSettings(cpus=2.0), data, Recipe())


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def diverging() -> None:
    raise IrmasError("the loss became nan or infinite in epoch 1")


def unusable() -> None:
    raise RuntimeError("no kernel image is available")


@pytest.mark.parametrize(
    ("training", "gpus", "told"),
    [
        (diverging, 1.0, r"a GPU of its own, as .* not be measured \(.*the loss became nan"),
        (out_of_memory, 1.0, r"a GPU of its own, as .* not be measured \(.*CUDA out of memory"),
        (unusable, 0.0, r"run on CPUs, as the GPU cannot be used \(.*no kernel image"),
    ],
)
def test_a_recipe_that_fails_on_a_gpu_is_not_a_gpu_that_fails(
    ray_cluster: None,
    data: TrainingData,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    training: Callable[[], None],
    gpus: float,
    told: str,
) -> None:
    """The measured training fails in a task of Ray's, which needs no GPU here."""
    node = {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}}
    measure = ray.remote(num_cpus=0, max_retries=0)(training)
    monkeypatch.setattr("irmas_dist.search.gpu_sharing.gpu_count", lambda: 1.0)
    monkeypatch.setattr("irmas_dist.search.gpu_sharing.wait_until_free", lambda *_: None)
    monkeypatch.setattr(
        "irmas_dist.search.gpu_sharing.measure_on_gpu", lambda *_: ray.get(measure.remote())
    )
    monkeypatch.setattr(ray, "nodes", lambda: [node])
    assert share_gpus(SweepSettings(), data, Recipe()).gpus == gpus
    assert re.search(told, " ".join(capsys.readouterr().err.split()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_memory_of_a_training_is_measured(data: TrainingData) -> None:
    memory = memory_of_a_training(data, Recipe())
    assert 0 < memory.used < memory.total

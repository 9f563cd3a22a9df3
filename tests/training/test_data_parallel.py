"""Workers of torch.distributed train one model: real processes connected over loopback.

Each scenario runs with one, two and three workers. Dropout is off, as its draws differ by rank;
so is batch normalisation, except in its own scenario.
"""

import json
import multiprocessing
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.models.cnn import CNN, initialise
from irmas_dist.training.data import TrainingData
from irmas_dist.training.initial_model import InitialModel
from irmas_dist.training.learner import DATA_PARALLEL, Learner
from irmas_dist.training.stores import FurtherData
from tests.records import DATA
from tests.training.test_learner import poison

TOLERANCE = 2e-3
"""Relative difference of loss curves: gradients are summed in another order in every step."""

SCENARIOS: dict[str, dict[str, Any]] = {
    # 48 examples in 7 steps of 6 or 7: shares differ.
    "uneven shares": {"training.batch_size": 7},
    "everything": {
        "training.batch_size": 7,
        "training.accumulate": 2,
        "training.loss.kind": "asymmetric",
        "training.loss.balance": 0.5,
        "training.optimizer": "adamw",
        "training.weight_decay": 0.01,
        "training.clip_norm": 0.5,
        "training.ema": 0.8,
    },
    # The third of three workers has nothing to do in any step.
    "fewer examples than workers": {
        "model.normalisation": "instance",
        "training.batch_size": 2,
        "training.epochs": 1,
    },
    # A step whose gradients are NaN on one worker is skipped by all.
    "a worker's NaN": {"training.on_nan": "skip", "training.epochs": 1},
    "batch normalisation": {"model.normalisation": "batch", "training.epochs": 1},
    # All shares are equal, and no weight changes.
    "running statistics": {
        "model.normalisation": "batch",
        "training.batch_size": 6,
        "training.lr": 1e-12,
        "training.epochs": 1,
    },
    # A third of the clips are taken for those of a further store, and drawn more often.
    "frozen block": {
        "training.freeze": {"blocks": 1, "epochs": 2},
        "training.head_lr": 1e-2,
        "training.batch_size": 7,
    },
    "two stores": {"training.batch_size": 7, "training.loss.balance": 0.5},
}


SAME = ("uneven shares", "everything", "fewer examples than workers", "two stores", "frozen block")
"""Scenarios in which nothing differs between workers."""


def start_of(data: TrainingData, settings: Recipe) -> InitialModel:
    features, vocabulary = data.store.settings, data.store.vocabulary
    network = CNN(settings.model, features.bands, settings.window.frames(features), len(vocabulary))
    initialise(network, seed=9)
    mean, std = tuple(data.store.mean), tuple(data.store.std)
    return InitialModel("m", network, vocabulary, features, mean, std, digest="", data=DATA)


def work(rank: int, workers: int, data: TrainingData, recipe: Recipe, directory: str) -> None:
    """One worker: all scenarios, one after another."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    if workers > 1:
        store = f"file://{directory}/rendezvous-{workers}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=workers)
    results = {}
    for name, values in SCENARIOS.items():
        settings = build_recipe(recipe.model_dump(), values, name)
        further = FurtherData(data.store, weight=1.5, clips=16, left_out=0)
        learner = Learner(
            replace(
                data,
                further=(further,) if name == "two stores" else (),
                start=start_of(data, settings) if name == "frozen block" else None,
            ),
            settings,
            rank=rank,
            workers=workers,
            wrap=partial(DistributedDataParallel, **DATA_PARALLEL)
            if workers > 1
            else lambda network: network,
        )
        if name == "a worker's NaN" and rank == 0:
            poison(learner, 1)
        while not learner.finished:
            learner.run_epoch()
        weights = torch.cat([value.flatten() for value in learner.best_weights.values()])
        means = (value for key, value in learner.best_weights.items() if "running_mean" in key)
        results[name] = {
            "history": learner.history,
            "weights": weights.tolist(),
            "mean": next((value.tolist() for value in means), None),
        }
    Path(directory, f"{workers}-{rank}.json").write_text(json.dumps(results))
    if workers > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By number of workers and rank: history and weights by scenario."""
    directory = tmp_path_factory.mktemp("workers")
    recipe = Recipe.model_validate(
        {
            "window": {"seconds": 0.8, "hop_seconds": 0.4},
            "model": {"blocks": 2, "width": 8, "convolutions": 1, "pool": 2, "dense": 16}
            | {"normalisation": "none", "dropout": {"blocks": 0.0, "dense": 0.0}},
            "training": {"epochs": 3, "batch_size": 8, "lr": 3e-3} | {"precision": "float32"},
        }
    )
    # All workers are forked from one process that has done all the importing and nothing else.
    multiprocessing.set_forkserver_preload([__name__])
    arguments = (data, recipe, str(directory))
    contexts = [
        mp.start_processes(
            work, (workers, *arguments), workers, join=False, start_method="forkserver"
        )
        for workers in (1, 2, 3)
    ]
    for context in contexts:
        while not context.join():
            pass
    return {
        f"{workers}-{rank}": json.loads((directory / f"{workers}-{rank}.json").read_text())
        for workers in (1, 2, 3)
        for rank in range(workers)
    }


def curve(history: list[dict[str, float]]) -> list[float]:
    return [epoch[name] for epoch in history for name in ("train_loss", "val_loss")]


@pytest.mark.parametrize("scenario", SAME)
@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_has_the_loss_curve_of_one(
    results: dict[str, Any], scenario: str, workers: int
) -> None:
    alone = results["1-0"][scenario]["history"]
    together = results[f"{workers}-0"][scenario]["history"]
    assert curve(together) == pytest.approx(curve(alone), rel=TOLERANCE)
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.keys() == theirs.keys()
        # Ratios of counts: a decision counted twice, or not at all, would show.
        for name in ("train_label_accuracy", "train_micro_recall", "val_label_accuracy"):
            assert ours[name] == pytest.approx(theirs[name], abs=0.02), (scenario, name)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("workers", [2, 3])
def test_all_workers_end_with_the_same_model_and_the_same_metrics(
    results: dict[str, Any], scenario: str, workers: int
) -> None:
    first, *others = (results[f"{workers}-{rank}"][scenario] for rank in range(workers))
    for other in others:
        assert other["history"] == first["history"]
        assert other["weights"] == first["weights"]


@pytest.mark.parametrize("workers", [2, 3])
def test_running_statistics_are_those_of_all_shares(results: dict[str, Any], workers: int) -> None:
    """Means over equal shares have the mean of the whole; of deeper layers they need not."""
    alone = results["1-0"]["running statistics"]["mean"]
    together = results[f"{workers}-0"]["running statistics"]["mean"]
    assert together == pytest.approx(alone, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_step_that_one_worker_cannot_compute_is_skipped_by_all(
    results: dict[str, Any], workers: int
) -> None:
    for rank in range(workers):
        history = results[f"{workers}-{rank}"]["a worker's NaN"]["history"]
        assert [epoch["train_skipped"] for epoch in history] == [1]
        assert all(torch.tensor(curve(history)).isfinite())

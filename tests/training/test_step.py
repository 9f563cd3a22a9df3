"""A training step asks its device nothing, for every recipe and setting."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from irmas_dist.config.augment import MixSettings
from irmas_dist.config.recipe import Recipe, build_recipe, load_recipe
from irmas_dist.config.shipped import shipped_names
from irmas_dist.features.clips import Clips
from irmas_dist.training.data import TrainingData
from irmas_dist.training.initial_model import frozen_blocks
from irmas_dist.training.learner import Learner
from irmas_dist.training.sampling import mixing_alone
from irmas_dist.training.steps import PlannedSteps
from irmas_dist.training.validation import mixture_clips

EVERY_CHANGE = {
    "augment.tempo": 0.1, "augment.noise_snr_db": 20, "augment.frequency_mask": 8,
    "augment.time_mask": 4, "augment.equalise_db": 6, "augment.pitch_semitones": 1,
}  # fmt: skip
EVERY_STATE = {
    "training.on_nan": "skip", "training.ema": 0.9, "training.clip_norm": 1.0,
    "training.accumulate": 2, "training.optimizer": "adamw", "training.weight_decay": 0.01,
    "training.loss.kind": "asymmetric", "training.loss.balance": 0.5,
}  # fmt: skip
SMALL = {"model.blocks": 2, "model.width": 4, "model.dense": 8, "training.batch_size": 5}
VARIANTS: dict[str, dict[str, Any]] = {
    "every change": EVERY_CHANGE | SMALL,
    "every state": EVERY_STATE | SMALL,
    "focal": {"training.loss.kind": "focal", "training.schedule": "plateau"} | SMALL,
    "attention, residual, excited": SMALL | {
        "model.head": "attention", "model.residual": True, "model.squeeze_excite": True,
        "model.activation": "gelu", "model.dropout.maps": 0.1,
    },
    "a head of its own rate": {"training.head_lr": 1e-2} | EVERY_STATE | SMALL,
    "instance": SMALL | {"model.normalisation": "instance", "model.activation": "silu"},
    "ibn": SMALL | {"model.normalisation": "ibn"},
    "group": SMALL
    | {"model.normalisation": "group", "model.head": "max", "model.pooling": "average"},
}  # fmt: skip


def recipes() -> dict[str, Recipe]:
    shipped = {name: load_recipe(name, ["training.batch_size=4"]) for name in
               shipped_names("recipe")}  # fmt: skip
    irmas = shipped["irmas"].model_dump()
    return shipped | {name: build_recipe(irmas, values, name) for name, values in VARIANTS.items()}


RECIPES = recipes()


def learner(recipe: Recipe, like: TrainingData) -> Learner:
    """A learner of random clips, some shorter than a window."""
    features, codes = recipe.features, recipe.corpus.vocabulary
    rng = np.random.default_rng(0)
    lengths = np.array([20, 140, 140, 140, 70, 140, 140, 140, 140, 140, 140], np.int64)
    clips = Clips(
        frames=rng.normal(-4, 1, (int(lengths.sum()), features.bands)).astype(np.float16),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        labels=np.eye(len(codes), dtype=np.float32)[: len(lengths)],
        clip_ids=[str(index) for index in range(len(lengths))],
        parts=["training"] * len(lengths),
        groups=[str(index) for index in range(len(lengths))],
    )
    data = TrainingData(
        training=clips,
        validation=mixture_clips(clips, 6, mixing_alone(MixSettings()), features, seed=0),
        store=replace(
            like.store, settings=features, vocabulary=codes,
            mean=[-4.0] * features.bands, std=[1.0] * features.bands,
        ),
    )  # fmt: skip
    return Learner(data, recipe)


def planned(ours: Learner) -> PlannedSteps:
    assert isinstance(ours.data.training, Clips)
    return ours.plan_steps(ours.data.training, 0, 0, 0)


class Questions(TorchDispatchMode):
    """Records operations that give the host a value from the device, or the device one."""

    ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if func._schema.name.removeprefix("aten::") in self.ASKING:
            self.asked.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_asks_the_device_nothing(name: str, data: TrainingData) -> None:
    ours = learner(RECIPES[name], data)
    plan = planned(ours)
    rows, rates = plan.to_device(ours.device), ours._optimisation.rates(len(plan.sizes))
    pool = ours._loader.resident
    assert pool is not None
    ours._step(pool, rows[0], rates[0], plan, plan.sizes[0], plan.sources[0])
    with Questions() as questions:
        ours._step(pool, rows[1], rates[1], plan, plan.sizes[1], plan.sources[1])
    assert questions.operations > 100
    assert questions.asked == []


@pytest.mark.parametrize("alone", [True, False])
def test_a_step_with_frozen_blocks_asks_the_device_nothing(data: TrainingData, alone: bool) -> None:
    ours = learner(RECIPES["every state"], data)
    plan = planned(ours)
    rows, rates = plan.to_device(ours.device), ours._optimisation.rates(len(plan.sizes))
    pool = ours._loader.resident
    assert pool is not None
    before = [value.clone() for value in ours.network.parts()[0].state_dict().values()]
    with frozen_blocks(ours.network.train(), 1, ours._optimisation, alone=alone):
        ours._step(pool, rows[0], rates[0], plan, plan.sizes[0], plan.sources[0])
        with Questions() as questions:
            ours._step(pool, rows[1], rates[1], plan, plan.sizes[1], plan.sources[1])
    assert questions.asked == []
    assert all(map(torch.equal, before, ours.network.parts()[0].state_dict().values()))


@pytest.mark.parametrize("name", RECIPES)
def test_examples_network_and_gradients_are_one_graph(name: str, data: TrainingData) -> None:
    """Anything that depends on a value would break the graph; the optimiser's kernel is opaque."""
    ours = learner(RECIPES[name], data)
    plan = planned(ours)
    size, rows = plan.sizes[0], plan.to_device(ours.device)[0]
    sources = (plan.layout.sources,) * len(size.parts)
    pool = ours._loader.resident

    def gradients(rows: torch.Tensor) -> torch.Tensor:
        parts = [
            plan.layout.unpack(rows[part], sources[part], examples, plan.changes)
            for part, examples in enumerate(size.parts)
        ]
        return ours._step.backward(pool, parts, size.examples)

    torch.compiler.reset()
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        totals = torch.compile(gradients, fullgraph=True, backend="eager")(rows)
    assert totals[1] == size.examples * len(RECIPES[name].corpus.vocabulary)
    assert totals.isfinite().all()


@pytest.mark.parametrize("name", ["irmas", "every state", "every change"])
def test_sources_that_only_fill_a_row_change_no_more_than_rounding(
    name: str, data: TrainingData
) -> None:
    """Padded rows, as in a captured step; kernels over more elements may round differently."""
    ours = learner(RECIPES[name], data)
    plan = planned(ours)
    pool = ours._loader.resident
    assert pool is not None
    for row, size, (used, *_) in zip(
        plan.to_device(ours.device), plan.sizes, plan.sources, strict=True
    ):
        assert used < plan.layout.sources
        parts = [
            plan.layout.unpack(row[0], sources, size.parts[0], plan.changes)
            for sources in (used, plan.layout.sources)
        ]
        examples = [ours._step._mixer(pool, part, ours.frames) for part in parts]
        torch.testing.assert_close(*examples, rtol=0, atol=1e-4)
        gradients = []
        for part in parts:
            torch.manual_seed(0)
            ours.network.zero_grad()
            ours._step.backward(pool, [part], size.parts[0])
            given = [p.grad for p in ours.network.parameters() if p.grad is not None]
            gradients.append(torch.cat([gradient.flatten() for gradient in given]))
        assert gradients[0].norm() > 0
        assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()

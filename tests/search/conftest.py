"""What the tests of the search share: a space, and a study without Ray around it."""

from pathlib import Path

import optuna
import pytest

from irmas_dist.config.recipe import Recipe
from irmas_dist.search.samplers import build_sampler
from irmas_dist.search.space import Space, build_space

ENTRIES = {
    "model.head": {"type": "categorical", "choices": ["flatten", "max"]},
    "model.dense": {
        "type": "int", "low": 64, "high": 256, "step": 64, "when": {"model.head": "max"},
    },
    "augment.mix.counts": {"type": "categorical", "choices": [[1], [2, 1]]},
    "training.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
}  # fmt: skip


@pytest.fixture
def space() -> Space:
    return build_space(ENTRIES, Recipe(), "the test")


@pytest.fixture
def study(space: Space, tmp_path: Path) -> optuna.Study:
    return make_study(space, f"sqlite:///{tmp_path}/study.db")


def make_study(
    space: Space, storage: object, name: str = "study", sampler: str = "tpe"
) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        study_name=name,
        sampler=build_sampler(sampler, space, seed=0, objectives=1),
        direction="maximize",
        load_if_exists=True,
    )

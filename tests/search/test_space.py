"""A search space is checked before anything starts, and draws what it says."""

from pathlib import Path

import optuna
import pytest

from irmas_dist.config import Recipe, build_recipe
from irmas_dist.errors import IrmasError
from irmas_dist.search.space import load_space
from tests.conftest import CONFIGS


def space(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((CONFIGS / "spaces").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_space_draws_recipes(path: Path) -> None:
    searched = load_space(path, Recipe())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        searched(trial)
        assert trial.params
        build_recipe(Recipe().model_dump(), trial.params, "drawn")


def test_a_condition_decides_whether_an_entry_is_drawn(tmp_path: Path) -> None:
    path = space(
        tmp_path,
        """
        model.head: {type: categorical, choices: [flatten, max]}
        model.dense: {type: int, low: 64, high: 256, step: 64, when: {model.head: flatten}}
        """,
    )
    searched = load_space(path, Recipe())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    heads = set()
    for _ in range(20):
        trial = study.ask()
        searched(trial)
        heads.add(trial.params["model.head"])
        assert ("model.dense" in trial.params) == (trial.params["model.head"] == "flatten")
        assert trial.params.get("model.dense", 64) in (64, 128, 192, 256)
    assert heads == {"flatten", "max"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold at least one entry"),
        ("model.blokcs: {type: int, low: 1, high: 3}", "unknown setting model.blokcs"),
        ("training.lr: {type: float, low: 1.0, high: 0.1}", "training.lr.*low 1 must be below"),
        ("training.lr: {type: float, low: 0, high: 1, log: true}", "low above 0"),
        ("training.lr: {type: flaot, low: 0.1, high: 1}", "training.lr.*'float'"),
        ("training.lr: {low: 0.1, high: 1}", "training.lr.*type"),
        ("training.lr: {type: float, low: -1, high: 1}", "training.lr.*greater than 0"),
        ("model.head: {type: categorical, choices: [flatten, mean]}", "model.head='mean'"),
        ("model.head: {type: categorical, choices: []}", "model.head choices"),
        ("training.lr: {type: float, low: 0.1, high: 1, stepp: 1}", "training.lr.*stepp"),
        (
            "model.dense: {type: int, low: 1, high: 3, when: {model.head: max}}",
            "depends on model.head, which no entry above it has",
        ),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(IrmasError, match=message) as caught:
        load_space(space(tmp_path, text), Recipe())
    assert "\n" not in str(caught.value)


def test_a_missing_space_is_named(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match=r"missing\.yaml: No such file"):
        load_space(tmp_path / "missing.yaml", Recipe())

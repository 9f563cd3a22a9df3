"""A search space is checked before a sweep starts, and draws valid recipes."""

from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.recipe import Recipe, build_recipe, load_recipe
from irmas_dist.config.training import LearnerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.search.space import FIXED, Space, build_space, load_space
from tests.conftest import CONFIGS
from tests.search.conftest import ENTRIES


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
        build_recipe(Recipe().model_dump(), searched(trial), "drawn")
        assert trial.params


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


def test_an_entry_may_precede_those_it_depends_on(tmp_path: Path) -> None:
    path = space(
        tmp_path,
        """
        model.dense: {type: int, low: 64, high: 256, when: {model.head: [max, average]}}
        model.head: {type: categorical, choices: [flatten, max, average]}
        """,
    )
    assert list(load_space(path, Recipe()).entries) == ["model.head", "model.dense"]


def draw(searched: Space, seed: int) -> dict:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    drawn = searched(trial)
    assert searched.values(trial.params) == drawn
    assert searched.stored(drawn) == trial.params
    return drawn


NUMBERS = st.floats(1e-6, 10.0)


@st.composite
def entries(draw: st.DrawFn) -> dict:
    """Entries for settings that take any value drawn here, each maybe under a condition."""
    low, high = sorted([draw(NUMBERS), draw(NUMBERS)])
    log = draw(st.booleans())
    made: dict = {
        "training.optimizer": {"type": "categorical", "choices": ["adam", "adamw"]},
        "training.lr": {"type": "float", "low": low, "high": high * 1.5, "log": log},
        "model.width": {"type": "int", "low": (w := draw(st.integers(1, 9))),
                        "high": w + draw(st.integers(1, 9))},
        "augment.mix.counts": {
            "type": "categorical",
            "choices": draw(st.lists(
                st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
                min_size=1, max_size=4, unique=True,
            )),
        },
    }  # fmt: skip
    for name in list(made)[1:]:
        if draw(st.booleans()):
            made[name]["when"] = {"training.optimizer": draw(st.sampled_from(["adam", "adamw"]))}
    order = draw(st.permutations(list(made)))
    return {name: made[name] for name in order}


@settings(max_examples=40)
@given(entries(), st.integers(0, 99))
def test_all_draws_lie_in_the_space_and_are_valid_recipes(made: dict, seed: int) -> None:
    searched = build_space(made, Recipe(), "the test")
    assert build_space(searched.content(), Recipe(), "again").content() == searched.content()
    drawn = draw(searched, seed)
    for name, entry in made.items():
        conditions = entry.get("when", {})
        assert (name in drawn) == all(drawn.get(k) == v for k, v in conditions.items())
        if name in drawn and "low" in entry:
            assert entry["low"] <= drawn[name] <= entry["high"]
        elif name in drawn:
            assert drawn[name] in entry["choices"]
    build_recipe(Recipe().model_dump(), drawn, "drawn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold at least one entry"),
        ("model.blokcs: {type: int, low: 1, high: 3}", "unknown setting model.blokcs"),
        ("training.lr: {type: float, low: 1.0, high: 0.1}", "training.lr.*low 1 must be below"),
        ("training.lr: {type: float, low: 0, high: 1, log: true}", "low above 0"),
        (
            "training.lr: {type: flaot, low: 0.1, high: 1}",
            "training.lr: type 'flaot' is none of 'float'",
        ),
        ("training.lr: {low: 0.1, high: 1}", "training.lr: it needs a type: float, int or categ"),
        (
            "training: {lr: {type: float, low: 0.1, high: 1}}",
            r"training: write the whole name of a setting: training\.lr: {type: …}",
        ),
        (
            "model.head: {type: categorical, choices: [max, {a: 1}]}",
            "model.head choices: a value is text, a finite number, true, false or null, or a list",
        ),
        ("model.head: {type: categorical, choices: [{a: max}]}", "model.head choices: a value is"),
        ("model.head: {type: categorical, choices: [[[max]]]}", "model.head choices: a value is"),
        ("model.head: {type: categorical, choices: {a: 1}}", "model.head choices: should be a li"),
        (
            "model.head: {type: categorical, choices: [max], when: {model.blocks: .nan}}",
            "model.head when: a value is text, a finite number",
        ),
        (
            "model.blocks: {type: int, low: 3, high: 4}\n"
            "model.head: {type: categorical, choices: [max, flatten], when: {model.blocks: []}}",
            "model.head when: model.blocks needs a value, or a list of one or more",
        ),
        ("training.lr: {type: float, low: -1, high: 1}", "training.lr.*greater than 0"),
        ("model.head: {type: categorical, choices: [flatten, mean]}", "model.head='mean'"),
        ("model.head: {type: categorical, choices: []}", "model.head choices"),
        ("training.lr: {type: float, low: 0.1, high: 1, stepp: 1}", "training.lr.*stepp"),
        (
            "model.dense: {type: int, low: 1, high: 3, when: {model.head: max}}",
            "model.dense depends on model.head, which is not searched",
        ),
        (
            "model.head: {type: categorical, choices: [max, flatten]}\n"
            "model.dense: {type: int, low: 1, high: 3, when: {model.head: average}}",
            "model.dense depends on model.head='average', which is never drawn",
        ),
        (
            "model.dense: {type: int, low: 1, high: 3, when: {model.width: 2}}\n"
            "model.width: {type: int, low: 1, high: 3, when: {model.dense: 2}}",
            "conditions in a circle: model.dense and model.width",
        ),
        (
            "model.blocks: {type: int, low: 3, high: 4}\n"
            "model.head: {type: categorical, choices: [max, flatten], when: {model.blocks: 3}}\n"
            "model.dense: {type: int, low: 8, high: 9, when: {model.head: max, model.blocks: 4}}",
            "line 3: model.dense is never searched: its conditions and those of the entries",
        ),
        (
            "training.lr: {type: float, low: 0.001, high: 0.01}\n"
            "model.dense: {type: int, low: 8, high: 9, when: {training.lr: 0.005}}",
            "model.dense depends on training.lr=0.005, which is never drawn",
        ),
        ("training.batch_size: {type: float, low: 1, high: 8}", "batch_size=.*valid integer"),
        ("model.width: {type: int, low: 1.5, high: 8}", "model.width low: .*valid integer"),
        ("model.width: {type: int, low: 1, high: 8, step: 2}", "steps of 2 end at 7, not at"),
        ("training.lr: {type: float, low: 0.1, high: .inf}", "training.lr high"),
        (
            "model.head: {type: categorical, choices: [max], when: [a]}",
            "model.head when: write {OTHER: VALUE}",
        ),
        ("training.lr: 3", "training.lr: write {type: float, low: …, high: …}, or {type: categ"),
        ("model: {type: categorical, choices: [1]}", "model=1"),
        ("model.head: {type: categorical, choices: [max, max]}", "'max' is given twice"),
        (
            "training.lr: {type: float}\ntraining.lr: {type: int}",
            'line 2, column 1: found duplicate key "training.lr"',
        ),
        ("a: [", "is not YAML"),
    ],
)
def test_an_error_is_reported_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(IrmasError, match=message) as caught:
        load_space(space(tmp_path, text), Recipe())
    assert "\n" not in str(caught.value)


def test_a_missing_space_is_named(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match=r"missing\.yaml: no such file"):
        load_space(tmp_path / "missing.yaml", Recipe())


def test_a_grid_has_every_combination_once() -> None:
    entries = {name: value for name, value in ENTRIES.items() if name != "training.lr"}
    grid = list(build_space(entries, Recipe(), "test").grid())
    assert len(grid) == 2 * (1 + 4)  # model.dense is searched with one head only
    assert len({tuple(sorted(point.items())) for point in grid}) == len(grid)
    with pytest.raises(IrmasError, match=r"training\.lr has neither"):
        build_space(ENTRIES, Recipe(), "test").grid()


def test_a_grid_and_a_condition_have_the_steps_that_are_written() -> None:
    entries = {
        "model.dropout.dense": {"type": "float", "low": 0.0, "high": 0.3, "step": 0.1},
        "model.dense": {
            "type": "categorical", "choices": [64], "when": {"model.dropout.dense": 0.3}
        },
    }  # fmt: skip
    grid = list(build_space(entries, Recipe(), "test").grid())
    assert [point["model.dropout.dense"] for point in grid] == [0.0, 0.1, 0.2, 0.3]
    assert ["model.dense" in point for point in grid] == [False, False, False, True]


@pytest.mark.parametrize("name", FIXED)
def test_settings_that_no_trial_can_change_are_refused_with_the_reason(
    name: str, tmp_path: Path
) -> None:
    setting = {
        "corpus": "corpus.conflicts: {type: categorical, choices: [keep, drop]}",
        "features": "features.bands: {type: categorical, choices: [64, 96]}",
        "validation": "validation.mixtures: {type: int, low: 10, high: 20}",
        "ingest": "ingest.pool_clips: {type: int, low: 10, high: 20}",
        "tracking": "tracking.project: {type: categorical, choices: [a, b]}",
        "thresholds.evidence": "thresholds.evidence: {type: float, low: 0.5, high: 1}",
    }[name]
    file = tmp_path / "space.yaml"
    file.write_text(f"training.lr: {{type: float, low: 0.001, high: 0.01}}\n{setting}\n")
    with pytest.raises(IrmasError, match=rf"line 2: {name}[.\w]* cannot be searched: ") as refused:
        load_space(file, load_recipe())
    assert str(refused.value).endswith(FIXED[name])


def test_every_part_of_a_recipe_is_searched_or_refused() -> None:
    assert Recipe.model_fields.keys() - FIXED.keys() == LearnerSettings.model_fields.keys()

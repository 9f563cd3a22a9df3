"""A recipe is its file with overrides by name; what it does not take is refused by name."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from irmas_dist.config.base import Settings
from irmas_dist.config.recipe import Recipe, build_recipe, load_recipe
from irmas_dist.errors import IrmasError

ROOT = Path(__file__).parents[2]


def refusal(build: Callable[..., Recipe], *arguments: Any) -> str:
    """The one line with which a recipe is refused."""
    with pytest.raises(IrmasError) as refused:
        build(*arguments)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def refused_overrides(*overrides: str, config: str | None = None) -> str:
    return refusal(load_recipe, config, overrides)


# What it is made of


def test_overrides_replace_values_of_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("seed: 7\ntraining: {epochs: 5, lr: 0.1}\n")
    recipe = load_recipe(file, ["training.lr=1e-3", " model.dropout.dense = 0.25"])
    assert (recipe.seed, recipe.training.epochs, recipe.training.lr) == (7, 5, 1e-3)
    assert recipe.model.dropout.dense == 0.25
    assert recipe.validation == Recipe().validation


def test_a_model_has_the_recipe_that_it_was_trained_with(tmp_path: Path) -> None:
    description = {"recipe": load_recipe("demo", ["seed=7"]).model_dump(mode="json")}
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert load_recipe(tmp_path) == load_recipe("demo", ["seed=7"])
    assert load_recipe(tmp_path, ["seed=8"]) == load_recipe("demo", ["seed=8"])
    for damaged in ("{", "[]", "{}", '{"recipe": 1}', '{"recipe": {"x": 1}}'):
        (tmp_path / "model.json").write_text(damaged)
        assert str(tmp_path / "model.json") in refusal(load_recipe, tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"recipe": {"training": {"epochs": -1}}}))
    url = tmp_path.as_uri()
    assert refusal(load_recipe, url).startswith(f"{url}/model.json: training.epochs=-1")
    (tmp_path / "model.json").unlink()
    assert "no such file or model directory" in refusal(load_recipe, tmp_path)


def test_a_model_directory_does_not_hide_a_shipped_recipe_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    description = {"recipe": load_recipe("demo", ["seed=7"]).model_dump(mode="json")}
    (tmp_path / "demo" / "model.json").write_text(json.dumps(description))
    assert load_recipe("demo").seed == 0
    assert load_recipe("./demo").seed == 7


def test_of_two_overrides_of_one_name_the_last_applies() -> None:
    assert load_recipe(None, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize("code", ["a|b", "?", "path", "group", " a"])
def test_codes_that_a_table_of_clips_could_not_have_are_refused(code: str) -> None:
    with pytest.raises(IrmasError, match="cannot be the code of an instrument"):
        build_recipe({"corpus": {"instruments": {code: "x"}}}, {}, "the test")


def test_the_value_of_an_override_may_contain_an_equals_sign() -> None:
    recipe = load_recipe(None, ["corpus.instruments={gac: a=b}"])
    assert recipe.corpus.instruments == {"gac": "a=b"}


def test_building_a_recipe_leaves_what_it_is_built_from_alone() -> None:
    content = {"model": {"dropout": {"dense": 0.1}}}
    before = deepcopy(content)
    recipe = build_recipe(content, {"model.dropout.dense": 0.2, "model.width": 8}, "the test")
    assert recipe.model.dropout.dense == 0.2
    assert content == before


def test_what_applies_without_a_recipe_is_the_irmas_recipe() -> None:
    assert load_recipe(ROOT / "configs" / "irmas.yaml") == load_recipe()


# What it refuses


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.blokcs=3", "unknown setting model.blokcs=3; model has blocks, width, "),
        ("blocks=3", "unknown setting blocks=3; a recipe has seed, window, model, "),
        ("model={width: 8}", "model={width: 8}: this is a group of settings: blocks, width, "),
        ("model.dropout={}", "model.dropout={}: this is a group of settings: blocks, dense"),
        ("model.dropout.all=0", "unknown setting model.dropout.all=0; model.dropout has blocks, "),
        ("training.lr=fast", "training.lr='fast': should be a valid number"),
        ("training.lr.top=3", "training.lr={'top': 3}: should be a valid number"),
        ("training.epochs=0", "training.epochs=0: should be greater than or equal to 1"),
        ("model.activation=tanh", "model.activation='tanh': should be 'relu', 'leaky_relu', "),
        ("model.dropout.dense=2", "model.dropout.dense=2: should be less than 1"),
        ("model=3", "model=3: this is a group of settings: blocks, width, "),
        ("model.dropout=0.5", "model.dropout=0.5: this is a group of settings: blocks, dense"),
        ("augment.mix.counts=[]", "augment.mix.counts=[]: should have 1 or more items"),
        ("augment.mix.counts=2", "augment.mix.counts=2: should be a list"),
        ("corpus.instruments=[a]", "corpus.instruments=['a']: should be a mapping of names to"),
        ("augment.mix.counts=[1, x]", "augment.mix.counts.1='x': should be a valid number"),
        ("features.fmax=20000", "features: fmin 0 Hz and fmax 20000 Hz must be in order"),
        (
            "tracking.directory=s3://b/r",
            "tracking.directory='s3://b/r': should be a local directory",
        ),
        (
            "tracking.group=5",
            "tracking.group=5: should be a valid string; quote it, in a shell as "
            """'tracking.group="…"'""",
        ),
        ("tracking.project=a/b", "tracking.project='a/b': should have none of / "),
        (
            f"tracking.group={'x' * 129}",
            f"tracking.group='{'x' * 129}': string should have at most 128",
        ),
    ],
)
def test_a_setting_that_a_recipe_does_not_take(setting: str, told: str) -> None:
    assert refused_overrides(setting).startswith(f"--set: {told}")


def test_an_override_has_a_name_and_a_value() -> None:
    told = refused_overrides("epochs")
    assert told == "--set epochs: expected name=value, such as training.lr=1e-3"
    told = refused_overrides("training.lr=1", "training.lr.top=3")
    assert told == "--set: training.lr.top: lr is a value, not a group of settings"


def groups(model: type[Settings], name: str = "") -> Iterator[tuple[str, type[Settings]]]:
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield name + key, field.annotation
            yield from groups(field.annotation, f"{name}{key}.")


@pytest.mark.parametrize(("name", "group"), groups(Recipe))
def test_every_group_says_what_it_has(name: str, group: type[Settings]) -> None:
    told = refused_overrides(f"{name}.other=1")
    fields = ", ".join(group.model_fields)
    assert told == f"--set: unknown setting {name}.other=1; {name} has {fields}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            None,
            "r.yaml: no such file or model directory, and no recipe of this name: there are ",
        ),
        (b"a: [1\nb: 2", "r.yaml is not YAML: line 2, column 2: expected ',' or ']', but got ':'"),
        (b"model: \xff", "r.yaml is not YAML: "),
        (b"- model", "r.yaml must hold settings by name, not ['model']"),
        (
            b"model: {blokcs: 3}",
            "r.yaml, line 1: unknown setting model.blokcs=3; model has ",
        ),
        (
            b"training: {epochs: 0}",
            "r.yaml, line 1: training.epochs=0: should be greater",
        ),
    ],
)
def test_a_config_that_is_no_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "r.yaml").write_bytes(content)
    assert refused_overrides("training.lr=1e-4", config="r.yaml").startswith(told)


def test_an_error_names_where_the_settings_came_from() -> None:
    assert refusal(build_recipe, {"seed": -1}, {}, "the best trial").startswith(
        "the best trial: seed=-1: should be greater than or equal to 0"
    )


# What it costs


def test_reading_a_recipe_does_not_wait_for_heavy_libraries(tmp_path: Path) -> None:
    program = (
        "import sys; from irmas_dist.config.recipe import load_recipe; load_recipe();"
        "print({'torch', 'ray', 'wandb', 'optuna', 'pandas', 'librosa'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize(
    ("families", "message"),
    [
        ("{guitar: [gac, gtr]}", "family guitar: gtr is no instrument of"),
        ("{guitar: [gac], strings: [gac, vio]}", "gac is in the families guitar and strings"),
        ("{pia: [org]}", "family pia has the code of an instrument outside of it"),
    ],
)
def test_families_are_of_instruments_that_there_are(families: str, message: str) -> None:
    with pytest.raises(IrmasError, match=message):
        load_recipe(None, [f"corpus.families={families}"])
    known = load_recipe(None, ["corpus.families={guitar: [gac, gel], pia: [pia, org]}"])
    assert known.corpus.families["guitar"] == ("gac", "gel")

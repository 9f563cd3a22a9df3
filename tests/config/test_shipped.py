"""Recipes and spaces are found by name or path; anything else is refused."""

from pathlib import Path

import pytest

from irmas_dist.config.recipe import load_recipe
from irmas_dist.config.shipped import Kind, find_config, shipped_names
from irmas_dist.errors import IrmasError
from irmas_dist.search.space import load_space


def test_every_shipped_recipe_loads() -> None:
    names = shipped_names("recipe")
    assert {"demo", "han2016", "irmas", "seed"} <= set(names)
    for name in names:
        load_recipe(name)


def test_every_shipped_space_varies_the_default_recipe() -> None:
    names = shipped_names("space")
    assert {"architecture", "full", "quick", "regularisation"} <= set(names)
    for name in names:
        assert load_space(name, load_recipe()).entries


def test_the_default_recipe_is_the_one_named_irmas() -> None:
    assert load_recipe("irmas") == load_recipe()


def test_a_file_but_no_directory_takes_precedence_over_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("seed").write_text("seed: 7\n")
    assert load_recipe("seed").seed == 7
    Path("demo").mkdir()
    assert find_config("demo", "recipe").is_file()


@pytest.mark.parametrize("kind", ["recipe", "space"])
@pytest.mark.parametrize("name", ["nothing", "configs/nothing.yaml", "../configs/irmas"])
def test_neither_a_file_nor_a_name_is_refused_with_the_names(
    name: str, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IrmasError) as refused:
        find_config(name, kind)
    names = ", ".join(shipped_names(kind))
    files = {"recipe": "file or model directory", "space": "file"}[kind]
    told = f"{name}: no such {files}, and no {kind} of this name: there are {names}"
    assert str(refused.value) == told

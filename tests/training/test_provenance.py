"""A model says which packages and which commit made it."""

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

import irmas_dist
from irmas_dist.config.decisions import AggregationRule, ThresholdSettings
from irmas_dist.training.provenance import commit, for_validation, threshold_origin, versions


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one file, made to look like the one that is imported."""
    package = tmp_path / "checkout" / "irmas_dist"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(irmas_dist, "__file__", str(package / "__init__.py"))
    return package


def test_the_commit_of_a_checkout_and_whether_files_differ_from_it(
    package: Path,
) -> None:
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "first")
    head = git(package.parent, "rev-parse", "HEAD")
    assert len(head) == 40
    assert commit() == head
    (package / "__init__.py").write_text("changed = True\n")
    assert commit() == f"{head}-dirty"


def test_an_installed_package_has_no_commit_even_inside_another_checkout(package: Path) -> None:
    git(package.parents[1], "init", "-q")
    git(package.parents[1], "commit", "-q", "--allow-empty", "-m", "of something else")
    assert commit() is None


def test_without_git_there_is_no_commit(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(package.parent, "init", "-q")
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_a_package_that_is_not_installed_has_an_unknown_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert set(versions().values()) == {"unknown"}


def test_versions_name_what_may_change_a_result() -> None:
    assert {"torch", "numpy", "soxr"} <= versions().keys()


@pytest.mark.parametrize(
    ("recipe", "data", "expected"),
    [
        ({}, {}, "9 mixtures of held-out training clips"),
        ({"validation": {"mixed": False}}, {}, "9 held-out clips"),
        ({}, {"own_validation": True}, "9 mixtures of validation clips"),
        ({"validation": {"mixed": False}}, {"own_validation": True}, "9 validation clips"),
        ({}, {"validated_on": [{}]}, "9 clips of a store to validate on"),
        ({}, {"validated_on": [{}, {}]}, "9 clips of 2 stores to validate on"),
    ],
)
def test_thresholds_say_what_they_were_fitted_to(
    recipe: dict[str, Any], data: dict[str, Any], expected: str
) -> None:
    settings = for_validation(ThresholdSettings(rule="global"), ["mean"], recipe, data)
    origin = threshold_origin(settings, 9, recipe, data)
    evidence = "; evidence 0.6" if "mixtures" in expected else ""
    assert origin == f"{expected} (global, for macro F1{evidence})"


@pytest.mark.parametrize(
    ("aggregations", "recipe", "data", "kept"),
    [
        ("mean", {}, {}, 0.7),
        ("s2 mean", {}, {}, 0.7),
        ("s2 han2017", {}, {}, 1),
        ("attention", {"validation": {"by": "group"}}, {}, 0.7),
        ("s2", {}, {}, 1),
        ("han2017", {}, {}, 1),
        ("mean", {"validation": {"by": "source"}}, {}, 1),
        ("mean", {"validation": {"mixed": False}}, {}, 1),
        ("mean", {}, {"validated_on": [{}]}, 1),
    ],
)
def test_only_mixtures_of_held_out_groups_have_more_evidence_than_other_sources(
    aggregations: str, recipe: dict[str, Any], data: dict[str, Any], kept: float
) -> None:
    settings = ThresholdSettings(objective="micro_f1", evidence=0.7)
    rules = cast("list[AggregationRule]", aggregations.split())
    found = for_validation(settings, rules, recipe, data)
    assert found == settings.model_copy(update={"evidence": kept})

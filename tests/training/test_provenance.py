"""A model says which packages and which commit made it."""

import subprocess
import sys
from pathlib import Path

import pytest

import irmas_dist
from irmas_dist.training.provenance import commit, versions


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

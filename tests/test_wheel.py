"""The wheel holds all that the package needs: it works without the checkout, from anywhere."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel and what it requires, and no checkout on its path."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("irmas_dist", "configs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir")
    subprocess.run([sys.executable, *build, folder / "wheels", source], check=True)
    (wheel,) = (folder / "wheels").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    target = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target")
    subprocess.run([sys.executable, *target, site, wheel], check=True)
    # The .pth files of a path that stands in one, such as the checkout's, are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv" / "bin" / "python"


def run(python: Path, *arguments: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_does_not_use_the_checkout(python: Path, tmp_path: Path) -> None:
    where = run(python, "-c", "import irmas_dist; print(irmas_dist.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(python.parents[1])


@pytest.mark.parametrize(
    ("command", "epochs"),
    [
        ("train features model --config han2016 --dry-run", 30),
        ("sweep features out --config seed --space quick --dry-run", 30),
        ("sweep features out --dry-run", 80),
        ("demo --dry-run", 32),
    ],
)
def test_shipped_recipes_and_spaces_are_found_by_name(
    command: str, epochs: int, python: Path, tmp_path: Path
) -> None:
    printed = run(python, "-m", "irmas_dist", *command.split(), cwd=tmp_path)
    assert yaml.safe_load(printed)["training"]["epochs"] == epochs


def test_pages_find_their_templates(python: Path, tmp_path: Path) -> None:
    script = (
        "from jinja2 import PackageLoader; "
        "print(PackageLoader('irmas_dist.reports', '').list_templates())"
    )
    listed = run(python, "-c", script, cwd=tmp_path)
    for template in ("model_card.md", "model_page.html", "page.css", "sweep_page.html"):
        assert repr(template) in listed

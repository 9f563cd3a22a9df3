"""Commands that would write to the same place: the second is refused, in one line and at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from irmas_dist.storage.locks import lock_directory, lock_file
from tests.inference.conftest import Irmas

pytestmark = pytest.mark.usefixtures("no_ray")


@contextmanager
def in_use(place: Path, is_file: bool) -> Iterator[None]:
    with lock_file(place) if is_file else lock_directory(place):
        yield


@pytest.mark.parametrize(
    ("arguments", "place", "is_file"),
    [
        ("predict MODEL EXCERPT --out p.csv", "p.csv", True),
        ("predict MODEL EXCERPT --out p.csv --workers 2", "p.csv", True),
        ("predict MODEL EXCERPT --adapt-to TREE --out p.csv", "p.csv", True),
        ("export MODEL --out exported", "exported", False),
        ("thresholds MODEL", "MODEL", False),
        ("evaluate MODEL --features missing", "MODEL/scores.parquet", True),
        ("evaluate MODEL --tree TREE --out scored", "scored/scores.parquet", True),
        ("report MODEL --scores forest.parquet", "MODEL/report.html", True),
        ("report --scores forest.parquet --out page.html", "page.html", True),
        ("index TREE", "manifest.parquet", True),
        ("extract MANIFEST features", "features", False),
        ("render corpus --recordings 1 --songs 0", "corpus", False),
        ("render twin --twin irmas --fraction 0", "twin", False),
        ("download IRMAS --base-url http://127.0.0.1:9", "IRMAS", False),
        ("demo --out runs/demo", "runs/demo", False),
    ],
)
def test_a_second_command_is_refused_while_the_first_runs(
    irmas: Irmas, model: Path, excerpts: list[Path], tree: Path, manifest: Path, tmp_path: Path,
    arguments: str, place: str, is_file: bool,
) -> None:  # fmt: skip
    forest = Path(__file__).parents[1] / "evaluation" / "data" / "forest_testing.parquet"
    (tmp_path / "forest.parquet").symlink_to(forest)
    meant = {"MODEL": model, "TREE": tree, "MANIFEST": manifest, "EXCERPT": excerpts[0]}

    def filled(word: str) -> str:
        for name, path in meant.items():
            word = word.replace(name, str(path))
        return word

    before = sorted(tmp_path.rglob("*"))
    with in_use(Path(filled(place)).absolute(), is_file):
        code, out, err = irmas(*map(filled, arguments.split()))
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert f" is in use by process {os.getpid()} on " in err
    assert sorted(path for path in tmp_path.rglob("*") if "logs" not in str(path)) == before

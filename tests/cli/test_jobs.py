"""``irmas submit`` and ``irmas jobs``, on a real cluster of one node."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from irmas_dist.cli.jobs import runs_on_ray
from irmas_dist.cli.main import app
from irmas_dist.config.recipe import load_recipe
from irmas_dist.errors import IrmasError
from tests.ray_cluster import RunningCluster, running_cluster

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture
def irmas(cluster: RunningCluster, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Run a command in a directory with a feature store and a recipe, by name and arguments."""
    (tmp_path / "features").mkdir()
    (tmp_path / "mine.yaml").touch()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        **cluster.environment,
        "PYTHONPATH": str(ROOT),
    }

    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        line = (*command.split(), "--address", cluster.dashboard_url, *arguments)
        done = subprocess.run(
            [sys.executable, "-m", "irmas_dist", *line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def sleeping(tmp_path: Path) -> Path:
    """A directory to send whose ``python -m irmas_dist`` runs for a long time."""
    package = tmp_path / "code" / "irmas_dist"
    package.mkdir(parents=True)
    # Without it Python would prefer the installed irmas_dist, which soon fails.
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import sys, time\nprint('runs', *sys.argv[1:], flush=True)\ntime.sleep(300)\n"
    )
    return package.parent


def test_a_job_runs_this_checkout(irmas: Callable[..., tuple[int, str, str]]) -> None:
    command = ("train", "features", "model", "--dry-run", "--config", "demo")
    code, out, err = irmas("submit", "--name", "dry", "--", *command)
    assert code == 0
    recipe = yaml.safe_load(out[out.index("seed:") :])
    assert recipe == load_recipe(ROOT / "configs" / "demo.yaml").model_dump(mode="json")
    warning, submitted, ended, *_ = err.splitlines()
    assert warning.startswith(
        "the job will not see features from here: it runs in a copy of the code"
    )
    assert (submitted, ended) == ("submitted dry", "dry succeeded")
    assert irmas("jobs logs", "dry")[:2] == (0, out)


def test_a_failed_job_s_exit_code_is_the_command_s(
    irmas: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = irmas("submit", "--name", "wrong", "--", "nonsense")
    assert code == 2
    assert "No such command 'nonsense'" in out
    assert "submitted wrong\nwrong failed\n" in err


def test_a_detached_job_is_listed_and_stopped(
    irmas: Callable[..., tuple[int, str, str]], sleeping: Path
) -> None:
    options = ("--detach", "--name", "long", "--working-dir", str(sleeping))
    code, out, err = irmas("submit", *options, "--", "train", "--config", "mine.yaml")
    assert (code, out) == (0, "")
    assert err.startswith("the job will not see mine.yaml from here")
    assert "submitted long\n" in err

    code, out, _ = irmas("jobs list", "--json")
    assert code == 0
    latest = json.loads(out)["jobs"][0]
    assert latest["submission_id"] == "long"
    assert latest["entrypoint"] == "python -m irmas_dist train --config mine.yaml"
    assert latest["status"] in ("PENDING", "RUNNING")

    while "runs train --config mine.yaml" not in irmas("jobs logs", "long")[1]:
        pass
    code, _, err = irmas("jobs stop", "long")
    assert (code, err.splitlines()[0]) == (0, "stopped long")
    code, _, err = irmas("jobs logs", "--follow", "long")
    assert (code, err.splitlines()[0]) == (1, "long stopped")
    code, _, err = irmas("jobs stop", "long")
    assert (code, err.splitlines()[0]) == (0, "long had ended already")
    code, out, _ = irmas("jobs status", "long", "--json")
    assert (code, json.loads(out)["jobs"][0]["status"]) == (0, "STOPPED")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("evaluate /shared/model --features s3://b/features", False),
        ("evaluate /shared/model --tree /shared/IRMAS", True),
        ("predict /m /a.wav --out /p.csv", False),
        ("predict /m /a.wav --out /p.csv --workers 2", True),
        ("predict /m /a.wav --out /p.csv --address auto", True),
        ("index /tree --out /m.parquet", False),
        ("index /tree --out /m.parquet --address auto", True),
        ("extract /m.parquet /features", True),
        ("extract --preview /a.wav --preview-out /a.png", False),
        ("train /shared/features /shared/model", True),
        ("demo --out /shared/demo", True),
        ("nonsense", True),
        ("train --no-such-option", True),
    ],
)
def test_commands_that_leave_their_work_to_ray(command: str, expected: bool) -> None:
    assert runs_on_ray(command.split(), get_command(app)) == expected


@pytest.mark.parametrize(
    "command",
    [
        "train features model",
        "index tree",
        "index --table /t.csv --vocabulary-from-table mine.yaml --out /m.parquet",
        "sweep /f runs/s",
        "sweep /f /s --study my.db",
        "sweep /f /s --study sqlite:///my.db",
        "sweep /f /s --storage checkpoints",
        "predict /m /a --out /p.csv --timeline lines",
        "demo",
        "render tree",
    ],
)
def test_results_are_not_written_into_the_job_s_own_directory(command: str) -> None:
    with pytest.raises(IrmasError, match="which is deleted after it"):
        runs_on_ray(command.split(), get_command(app))
    for allowed in ("train features model --dry-run", "sweep /f /s --study postgresql://h/db"):
        runs_on_ray(allowed.split(), get_command(app))


def test_missing_dependencies_are_reported_in_one_line(tmp_path: Path) -> None:
    bare = [sys.executable, "-S", "-m", "irmas_dist", "--help"]
    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "lacks typer: install irmas-dist with what it needs" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_job_is_reported_in_one_line(irmas: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = irmas("jobs logs", "other")
    assert (code, out) == (1, "")
    assert err.startswith("irmas: no job 'other' at http://127.0.0.1:")
    assert err.count("\n") == 1

"""Review of a sweep: optuna-dashboard on its study, and upload of its offline runs to W&B."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIServer, make_server

import wandb

from irmas_dist.errors import IrmasError
from irmas_dist.search.storages import open_storage
from irmas_dist.search.sweep_directory import read_record, study_location


@contextmanager
def dashboard(path: Path, port: int) -> Iterator[WSGIServer]:
    """Serve optuna-dashboard on a sweep's study, to this machine only.

    Args:
        path: Sweep directory.
        port: Port to listen on; 0: a free one.

    Raises:
        IrmasError: There is no sweep, optuna-dashboard is not installed, or the port is in use.
    """
    location = study_location(path, read_record(path))
    try:
        import optuna_dashboard
    except ModuleNotFoundError as error:
        raise IrmasError(
            f"reviewing needs {error.name}: pip install 'irmas-dist[review]'"
        ) from error
    app = optuna_dashboard.wsgi(open_storage(location))
    try:
        server = make_server("127.0.0.1", port, app)
    except OSError as error:
        raise IrmasError(f"port {port}: {error.strerror}; name another with --port") from error
    with server:
        yield server


def sync(path: Path) -> list[str]:
    """Upload the offline runs of a sweep to W&B; return their directories.

    Args:
        path: Sweep directory, or any directory with runs in ``wandb`` below it.

    Raises:
        IrmasError: There are none, there is no API key, or W&B refuses them.
    """
    patterns = {path: "offline-run-*"}
    if (path / "sweep.json").exists():
        record = read_record(path)
        # Runs of other sweeps and of trainings may be in the same directory.
        patterns[Path(record.recipe["tracking"]["directory"])] = f"offline-run-*-{record.identity}*"
    found = {run.resolve() for path, name in patterns.items() for run in path.glob(f"wandb/{name}")}
    runs = sorted(str(run) for run in found)
    if not runs:
        where = " or ".join(str(path / "wandb") for path in patterns)
        raise IrmasError(f"no offline runs in {where}")
    if not wandb.login(prompt=False):
        raise IrmasError("W&B needs an API key: set WANDB_API_KEY, or run 'wandb login'")
    environment = {name: v for name, v in os.environ.items() if name != "WANDB_MODE"}
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *runs],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise IrmasError(f"W&B refuses the runs: {lines[-1]}")
    return runs

"""Review of a sweep: optuna-dashboard on its study, and upload of its runs to W&B."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from wsgiref.simple_server import WSGIServer, make_server

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.search.storages import open_storage
from irmas_dist.search.sweep_directory import read_record, study_location
from irmas_dist.tracking.outcome import not_sent, run_names
from irmas_dist.tracking.run_file import RunFile, run_files, unsent_files
from irmas_dist.tracking.server import connection
from irmas_dist.tracking.uploads import uploads
from irmas_dist.training.model_description import read_description


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


def sync(path: Path) -> tuple[list[str], int]:
    """Upload the runs of a sweep, of a model or of a directory that W&B does not have yet.

    Args:
        path: Sweep directory, with whose trials go the trainings and evaluations of its best
            recipe; model directory; or any directory with runs in ``wandb`` below it.

    Returns:
        Names of the runs that were uploaded now, and how many were before.

    Raises:
        IrmasError: There are no runs, there is no API key, or not all could be uploaded.
    """
    files = _files(path)
    unsent = unsent_files(files)
    if unsent:
        _require_key()
    uploads.begin_all(unsent)
    begun = uploads.wait(inf)
    if left := [upload for upload in begun if not upload.sent]:
        raise IrmasError(not_sent(left, begun))
    earlier = {file.name for file in files} - {file.name for file in unsent}
    return run_names(begun), len(earlier)


def _require_key() -> None:
    """Refuse to upload without an API key, or with one that cannot be one."""
    try:
        found = connection()
    except Exception as error:
        raise IrmasError(f"W&B's API key cannot be used: {str(error).splitlines()[0]}") from error
    if found is None:
        raise IrmasError("W&B needs an API key: set WANDB_API_KEY, or run 'wandb login'")


def _files(path: Path) -> list[Path]:
    """Return the files of the runs that belong to a directory."""
    found = run_files(path)
    wanted = [str(path / "wandb")]
    if (path / "sweep.json").exists():
        record = read_record(path)
        directory = record.tracking.directory
        wanted.append(str(Path(directory, "wandb")))
        # Runs of other sweeps and of trainings may be in the same directory.
        found = [
            file
            for file in dict.fromkeys([*found, *run_files(directory)])
            if record.identity in file.parent.name or _group(file) == record.group
        ]
    elif (path / "model.json").exists():
        description = read_description(path)
        directory = storage.absolute(description.tracking.directory)
        wanted.append(str(Path(directory, "wandb")))
        found += run_files(directory, description.run or "none")
    if not found:
        raise IrmasError(f"no runs in {' or '.join(dict.fromkeys(wanted))}")
    return found


def _group(file: Path) -> str | None:
    run = RunFile(file).run
    return run.run_group if run else None

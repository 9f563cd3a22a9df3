"""Review of a sweep: optuna-dashboard on its study, and upload of its runs to W&B."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from wsgiref.simple_server import WSGIServer, make_server

from irmas_dist import storage
from irmas_dist.errors import IrmasError, first_line
from irmas_dist.search.storages import open_storage
from irmas_dist.search.sweep_directory import SweepRecord, read_record, study_location
from irmas_dist.storage.results import MODEL_FILE, SWEEP_FILE, holds
from irmas_dist.tracking.outcome import not_sent, run_names
from irmas_dist.tracking.run_file import RunFile, is_sent, run_files, started, unsent_files
from irmas_dist.tracking.server import connection
from irmas_dist.tracking.uploads import uploads
from irmas_dist.training.model_description import read_description

OWN = ("trial", "sweep")
"""Kinds of runs that have their sweep's identity in their own."""


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
    earlier = {file.name for file in files if is_sent(file)} - {file.name for file in unsent}
    return run_names(begun), len(earlier)


def _require_key() -> None:
    """Refuse to upload without an API key, or with one that cannot be one."""
    try:
        found = connection()
    except Exception as error:
        raise IrmasError(f"W&B's API key cannot be used: {first_line(error)}") from error
    if found is None:
        raise IrmasError("W&B needs an API key: set WANDB_API_KEY, or run 'wandb login'")


def _files(path: Path) -> list[Path]:
    """Return the files of the runs that belong to a directory."""
    if not path.is_dir():
        raise IrmasError(f"{path}: no such directory")
    places, found = [path], run_files(path)
    if holds(path, SWEEP_FILE):
        record = read_record(path)
        places = _places(path, record.tracking.directory)
        # Runs of other sweeps and of trainings may be in the same directories.
        found = [file for place in places for file in run_files(place) if _is_of(file, record)]
    elif holds(path, MODEL_FILE):
        for model in (path, *path.glob("seed-*")):  # An ensemble's models have a run each.
            if holds(model, MODEL_FILE) and (run := read_description(model).run):
                places = _places(path, read_description(model).tracking.directory)
                found += [file for place in places for file in run_files(place, run)]
    if not found:
        wanted = [str(place / "wandb") for place in places[:2]]
        raise IrmasError(f"no runs in {' or '.join(dict.fromkeys(wanted))}")
    return sorted(dict.fromkeys(found), key=started)


def _places(path: Path, directory: str) -> list[Path]:
    """Return where runs of a sweep or a model may be.

    They are in the directory that it names, or beside it if all was moved to another place.
    """
    folder = Path(storage.absolute(directory))
    beside = Path(storage.absolute(path)).parents[:2]
    return [path, folder, *beside, *(parent / folder.name for parent in beside)]


def _is_of(file: Path, record: SweepRecord) -> bool:
    """Return whether a run is of a sweep, or is a training or an evaluation of its best recipe."""
    if record.identity in file.parent.name:
        return True
    run = RunFile(file).run
    # Sweeps of one name have one group.
    return run is not None and run.run_group == record.group and run.job_type not in OWN

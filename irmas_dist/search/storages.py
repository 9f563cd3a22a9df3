"""Where Optuna studies are stored: journal files, SQLite files, and databases on a server."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import SQLAlchemyError

from irmas_dist.errors import PASSWORD, IrmasError

ENTRY = b'{"op_code":'
"""How each line of a journal of Optuna's begins."""


def open_storage(location: str, create: bool = False) -> BaseStorage:
    """Open the storage of a study.

    Args:
        location: A path ending in ``.log`` (journal file), any other path (SQLite), or the
            URL of a database, such as ``postgresql://user@host/database``.
        create: Whether a file that does not exist is created.

    Raises:
        IrmasError: The storage cannot be opened.
    """
    file = file_of(location)
    if file and not create and not file.is_file():
        raise IrmasError(f"{location}: there is no file of that name, and so no study")
    if location.endswith(".log") and "://" not in location:
        return _open_journal(location)
    if file and not create:
        _require_studies(file, location)
    # SQLAlchemy takes a ? for the beginning of options, and decodes %20.
    url = location if "://" in location else f"sqlite:///{quote(location)}"
    # The extra installs psycopg 3; SQLAlchemy's default is its predecessor.
    for plain in ("postgresql://", "postgres://"):
        if url.startswith(plain):
            url = "postgresql+psycopg://" + url.removeprefix(plain)
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except (ImportError, StorageInternalError, SQLAlchemyError, OSError, ValueError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, ModuleNotFoundError):
            package = "'irmas-dist[postgres]'" if cause.name == "psycopg" else cause.name
            raise IrmasError(f"this study needs {cause.name}: pip install {package}") from error
        reason = " ".join(str(cause).split("\n[SQL")[0].split("\n(Background")[0].split())
        if isinstance(cause, ValueError):  # It may tell a part of the password.
            reason = "its port or its host cannot be read"
        advice = "; PGPASSWORD may have it" if "password" in reason else ""
        raise IrmasError(
            f"cannot open the study at {public_location(location)}: {reason}{advice}"
        ) from error


def _require_studies(file: Path, location: str) -> None:
    """Refuse an SQLite database that is not Optuna's, to which Optuna would add its tables."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'studies'"
    try:
        # To be written: what a killed writer has left is undone by the next that reads.
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as database:
            found = database.execute(query).fetchone()
    except sqlite3.Error as error:
        raise IrmasError(f"cannot open the study at {location}: {error}") from error
    if not found:
        raise IrmasError(f"{location} has no study: it is not a database of Optuna's")


def _open_journal(location: str) -> BaseStorage:
    try:
        _require_journal(Path(location))
        _drop_torn_line(location)
        return JournalStorage(JournalFileBackend(location))
    except OSError as error:
        raise IrmasError(f"cannot open the study at {location}: {error.strerror}") from error
    except IrmasError:
        raise
    except Exception as error:  # what Optuna raises depends on what it reads in the place of what
        raise IrmasError(
            f"cannot open the study at {location}: the journal is damaged "
            f"({type(error).__name__}: {error})"
        ) from error


def _require_journal(path: Path) -> None:
    """Refuse a file that does not begin as Optuna's journals do, before its end is cut."""
    if not path.exists():
        return
    with path.open("rb") as journal:
        first = journal.read(len(ENTRY))
    if not ENTRY.startswith(first):  # The only entry may be torn.
        raise IrmasError(f"{path} has no study: it is not a journal of Optuna's")


def _drop_torn_line(location: str) -> None:
    """Cut what a process that was killed while it wrote has left at the end of a journal.

    Optuna would append the next entry to it, and the journal could never be read again.
    """
    if not _ends_torn(location):
        return
    lock = JournalFileSymlinkLock(location)  # the one that Optuna writes under
    lock.acquire()
    try:
        if _ends_torn(location):
            os.truncate(location, Path(location).read_bytes().rfind(b"\n") + 1)
    finally:
        lock.release()


def _ends_torn(location: str) -> bool:
    path = Path(location)
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as journal:
        journal.seek(-1, os.SEEK_END)
        return journal.read() != b"\n"


def file_of(location: str) -> Path | None:
    """Return the file in which a study is stored; None for a database on a server.

    Raises:
        IrmasError: An SQLite database in memory.
    """
    name = location.removeprefix("sqlite:///")
    if name in ("", ":memory:", "sqlite://"):
        raise IrmasError(f"{location}: a study in memory ends with its process; name a file")
    return None if "://" in name else Path(name)


def absolute_location(location: str) -> str:
    """Return a location that means the same in any working directory."""
    file = file_of(location)
    scheme = "sqlite:///" if location.startswith("sqlite:///") else ""
    return f"{scheme}{os.path.realpath(file)}" if file else location


def public_location(location: str) -> str:
    """Return a location without its password, which may be in PGPASSWORD."""
    return PASSWORD.sub(lambda found: "" if found[2] else f"{found[1] or ''}@", location)


def open_study(location: str, name: str | None = None) -> optuna.Study:
    """Open an existing study.

    Args:
        location: As for `open_storage`; without a name also ``location#name``,
            unless it is the name of a file.
        name: Its name; none: the only study there.

    Raises:
        IrmasError: There is no such study, or several and no name.
    """
    is_file = Path(location.removeprefix("sqlite:///")).is_file()
    if name is None and "#" in location and not is_file:
        location, _, name = location.rpartition("#")
    storage = open_storage(location)
    names = optuna.get_all_study_names(storage)
    if name is None and len(names) > 1:
        raise IrmasError(
            f"{public_location(location)} has several studies ({', '.join(names)}); "
            f"name one: {public_location(location)}#{names[0]}"
        )
    name = name or next(iter(names), None)
    if name not in names:
        which = f"no study {name}" if name else "no study"
        raise IrmasError(
            f"{public_location(location)} has {which}; it has: {', '.join(names) or 'none'}"
        )
    return optuna.load_study(study_name=name, storage=storage)

"""A study is stored in SQLite, a journal or PostgreSQL."""

import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.search.space import Space
from irmas_dist.search.storages import open_storage, open_study
from irmas_dist.search.study import best_row, check_study, directions, list_trials
from irmas_dist.search.trial import FINISHED, TRIAL
from tests.search.conftest import finish, make_searcher, make_study, result


def test_one_of_several_studies_is_named_behind_its_storage(space: Space, tmp_path: Path) -> None:
    location = str(tmp_path / "both.db")
    for name in ("one", "two"):
        make_study(space, open_storage(location, create=True), name)
    assert open_study(f"{location}#two").study_name == "two"
    with pytest.raises(IrmasError, match=r"several studies \(one, two\); name one: .*both\.db#one"):
        open_study(location)
    with pytest.raises(IrmasError, match="no study three; it has: one, two"):
        open_study(f"{location}#three")


def test_studies_are_stored_in_sqlite_and_in_journals(tmp_path: Path, space: Space) -> None:
    for name in ("study.db", "study.log"):
        check_storage(str(tmp_path / name), space)


def check_storage(location: str, space: Space) -> None:
    study = make_study(space, open_storage(location, create=True), "s")
    finish(study, space, [0.4, 0.5])
    killed = make_searcher(study, space, "b")
    killed.suggest("t")
    again = open_study(location, "s")
    assert [trial.state.name for trial in again.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    next_driver = make_searcher(
        make_study(space, open_storage(location, create=True), "s"), space, "b", 0
    )
    assert next_driver.suggest("t")[TRIAL] == {"number": 2, "resume": True}
    next_driver.end("t", result(0.7, 1, **{FINISHED: True}))
    assert best_row(list_trials(open_study(location), space))["value"] == 0.7


@pytest.mark.parametrize("name", ["typo.db", "typo.log", "no/such/folder/typo.db"])
def test_a_study_that_is_only_read_is_not_created(tmp_path: Path, name: str) -> None:
    for location in (str(tmp_path / name), f"sqlite:///{tmp_path / name}"):
        with pytest.raises(IrmasError, match=r"typo\.\w+: there is no file of that name"):
            open_study(location)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["what?", "a%20b", "c#1", "50%", "a b&c=d", "ä"])
def test_a_study_is_in_the_file_that_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "study.db"
    path.parent.mkdir()
    optuna.create_study(storage=open_storage(str(path), create=True), study_name="s")
    assert open_study(str(path)).study_name == "s"
    assert open_study(f"{path}#s").study_name == "s"
    assert list(tmp_path.iterdir()) == [path.parent]


def test_a_database_that_is_not_optunas_gets_no_tables(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE mine (a INTEGER)")
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(IrmasError, match=r"other\.db has no study: it is not a database of Optuna"):
        open_study(str(tmp_path / "other.db"))
    assert (tmp_path / "other.db").read_bytes() == before


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_damaged_database_is_refused_in_one_line(
    space: Space, tmp_path: Path, keep: float
) -> None:
    location = tmp_path / "study.db"
    finish(make_study(space, open_storage(str(location), create=True), "s"), space, [0.4])
    content = location.read_bytes()
    for damaged in (b"no database " * 100, content[: int(keep * len(content))]):
        location.write_bytes(damaged)
        with pytest.raises(IrmasError, match=r"cannot open the study at .*study\.db: ") as refused:
            open_study(str(location)).get_trials()
        assert "\n" not in str(refused.value)


KILLED_WHILE_WRITING = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size=1")  # so that pages are written before the end
database.execute("BEGIN IMMEDIATE")
insertion = "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, ?, ?)"
for number in range(300):
    database.execute(insertion, (f"note {number}", '"' + 900 * "y" + '"'))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_database_whose_writer_was_killed_is_as_before(tmp_path: Path, space: Space) -> None:
    location = str(tmp_path / "study.db")
    finish(make_study(space, f"sqlite:///{location}"), space, [0.1, 0.2])
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, location], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "study.db-journal").stat().st_size
    study = open_study(location)
    assert [trial.value for trial in study.trials] == [0.1, 0.2]
    assert not study.user_attrs


@pytest.mark.parametrize("content", ["missing", "empty", "another"])
def test_a_study_that_is_to_be_resumed_is_not_made_anew(
    tmp_path: Path, space: Space, content: str
) -> None:
    """All of its trials would run a second time."""
    location = tmp_path / "study.db"
    if content == "empty":
        location.touch()
    elif content == "another":
        make_study(space, f"sqlite:///{location}")
    with pytest.raises(IrmasError, match=rf"the study mine is not at {location}: restore it, or"):
        check_study(str(location), "mine", directions(None), {}, resume=True)
    check_study(str(location), "mine", directions(None), {})  # that of a new sweep


def test_a_place_where_no_study_can_be_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("journal.log", "study.db"):
        (tmp_path / name).mkdir()
        with pytest.raises(IrmasError) as refused:
            open_storage(str(tmp_path / name), create=True)
        assert str(refused.value).startswith(f"cannot open the study at {tmp_path / name}: ")
        assert "\n" not in str(refused.value)


@pytest.fixture
def journal(space: Space, tmp_path: Path) -> Path:
    path = tmp_path / "study.log"
    finish(make_study(space, open_storage(str(path), create=True), "s"), space, [0.4, 0.5])
    return path


@pytest.mark.parametrize("tail", [b'{"op_code":4,"wor', b"\0" * 100, b"\xff"])
def test_a_journal_whose_writer_was_killed_goes_on(journal: Path, tail: bytes) -> None:
    with journal.open("ab") as torn:
        torn.write(tail)
    open_study(str(journal)).ask()
    states = [trial.state.name for trial in open_study(str(journal)).trials]
    assert states == ["COMPLETE", "COMPLETE", "RUNNING"]


@pytest.mark.parametrize("content", [b"my notes", b"epoch 1\nepoch 2", b'{"a": 1', b'{"a": 1}\n{'])
def test_a_log_that_is_no_journal_is_refused_and_stays_as_it_is(
    tmp_path: Path, content: bytes
) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(content)
    for create in (False, True):
        with pytest.raises(IrmasError, match=r"train\.log has no study: it is not a journal of"):
            open_storage(str(log), create=create)
    assert log.read_bytes() == content


@pytest.mark.parametrize(
    "line", [b"not JSON", b"\xff\xfe", b"[1]", b'{"a": 1}', b'{"op_code": 99, "worker_id": ""}']
)
def test_a_damaged_journal_is_refused_in_one_line(journal: Path, line: bytes) -> None:
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([*lines[:3], line, *lines[3:], b""]))
    with pytest.raises(IrmasError, match=r"study\.log: the journal is damaged \(") as refused:
        open_study(str(journal))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("location", ["sqlite://", "sqlite:///", "sqlite:///:memory:", ":memory:"])
def test_a_study_in_memory_is_refused(location: str) -> None:
    for create in (False, True):
        with pytest.raises(IrmasError, match=f"^{location}: a study in memory ends with its proc"):
            open_storage(location, create)


@pytest.mark.parametrize("rest", ["localhost:notaport/db", "localhost:99999x/db", "[::1/db"])
@pytest.mark.parametrize("user", ["me", "me:geheim"])
def test_an_address_that_cannot_be_read_is_refused_in_one_line(user: str, rest: str) -> None:
    with pytest.raises(IrmasError) as refused:
        open_storage(f"postgresql://{user}@{rest}", create=True)
    assert str(refused.value) == (
        f"cannot open the study at postgresql://me@{rest}: its port or its host cannot be read"
    )


def test_a_database_whose_name_ends_like_a_journal_s_is_a_database(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IrmasError) as refused:
        open_storage("nodatabase://me:geheim@127.0.0.1:9/study.log", create=True)
    assert str(refused.value).startswith("cannot open the study at nodatabase://me@127.0.0.1:9/st")
    make_study(space, open_storage("sqlite:///study.log", create=True), "s")
    assert (tmp_path / "study.log").read_bytes().startswith(b"SQLite format 3")


POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server on the loopback interface, under a user that may run one."""
    if not POSTGRES:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    user: str | None = None
    if os.getuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        user = "postgres"
    # Not below pytest's directory, into which that user may not look.
    home = Path("/tmp", f"irmas-pg-{os.getpid()}")
    home.mkdir(mode=0o755)
    if user:
        shutil.chown(home, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -F"

    def run(*command: str) -> None:
        subprocess.run(
            [str(POSTGRES[-1] / command[0]), *command[1:]],
            user=user, cwd=home, check=True, capture_output=True,
        )  # fmt: skip

    try:
        run("initdb", "-D", f"{home}/data", "-U", "irmas", "-A", "trust", "--no-sync")
        run("pg_ctl", "-D", f"{home}/data", "-o", options, "-l", f"{home}/log", "-w", "start")
        yield f"postgresql://irmas@127.0.0.1:{port}/postgres"
    finally:
        if (home / "data" / "postmaster.pid").exists():
            run("pg_ctl", "-D", f"{home}/data", "-m", "immediate", "stop")
        shutil.rmtree(home)


def test_studies_are_stored_in_postgresql(postgres: str, space: Space) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install .[postgres])")
    check_storage(postgres, space)


def test_an_unreachable_database_is_reported_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install .[postgres])")
    with pytest.raises(IrmasError, match="cannot open the study at postgresql://me@") as caught:
        open_storage("postgresql://me:secret@127.0.0.1:9/none")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)

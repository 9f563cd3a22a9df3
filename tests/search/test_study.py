"""A study is stored in SQLite, a journal or PostgreSQL, and shared by sweeps."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from irmas_dist.config.recipe import Recipe
from irmas_dist.errors import IrmasError
from irmas_dist.search.samplers import build_sampler
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.study import (
    best_row,
    fail_unmarked_trials,
    importances,
    join_study,
    list_trials,
    open_storage,
    open_study,
)
from irmas_dist.search.trial import FINISHED, TRIAL
from tests.search.conftest import finish, make_searcher, make_study, result


def test_an_unmarked_trial_fails_after_a_while(
    study: optuna.Study, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.ask()
    fail_unmarked_trials(study)
    assert study.trials[0].state == TrialState.RUNNING
    monkeypatch.setattr("irmas_dist.search.study.UNMARKED", timedelta(0))
    fail_unmarked_trials(study)
    assert study.trials[0].state == TrialState.FAIL


def test_one_of_several_studies_is_named_behind_its_storage(space: Space, tmp_path: Path) -> None:
    location = str(tmp_path / "both.db")
    for name in ("one", "two"):
        make_study(space, open_storage(location), name)
    assert open_study(f"{location}#two").study_name == "two"
    with pytest.raises(IrmasError, match=r"several studies \(one, two\); name one: .*both\.db#one"):
        open_study(location)
    with pytest.raises(IrmasError, match="no study three; it has: one, two"):
        open_study(f"{location}#three")


def test_sweeps_share_a_study_only_when_they_search_the_same(
    study: optuna.Study, space: Space
) -> None:
    searched = {"recipe": "r", "space": "s", "features": "f"}
    assert not join_study(study, "a", searched)
    assert not join_study(study, "a", searched)  # resumed
    assert join_study(study, "b", searched)
    assert join_study(study, "a", searched)
    for what in searched:
        with pytest.raises(IrmasError, match=f"another {what}: name another directory"):
            join_study(study, "c", searched | {what: "other"})


def test_a_study_of_other_origin_is_not_joined(study: optuna.Study, space: Space) -> None:
    finish(study, space, [0.1])
    with pytest.raises(IrmasError, match="another recipe"):
        join_study(study, "a", {"recipe": "r"})


def test_importances_are_for_macro_f1_with_a_second_objective_too() -> None:
    entries = {
        "training.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "model.dropout.dense": {"type": "float", "low": 0.0, "high": 0.5},
    }
    space = build_space(entries, Recipe(), "the test")
    found = []
    for second in ([], [1.0]):
        study = optuna.create_study(
            sampler=build_sampler("random", space, 0, 1 + len(second)),
            directions=["maximize", *("minimize" for _ in second)],
        )
        for _ in range(40):
            trial = study.ask()
            drawn = space(trial)
            # The learning rate matters among good trials, dropout only among bad ones.
            value = min(1.0, 4 * drawn["model.dropout.dense"]) + drawn["training.lr"]
            study.tell(trial, [value, *second])
        found.append(importances(study))
    assert found[0] == found[1]


def test_importances_are_shares(study: optuna.Study, space: Space) -> None:
    assert importances(study) == {}
    finish(study, space, [0.1, 0.6, 0.3, 0.2, 0.5])
    assert sum(importances(study).values()) == pytest.approx(1)


def test_studies_are_stored_in_sqlite_and_in_journals(tmp_path: Path, space: Space) -> None:
    for name in ("study.db", "study.log"):
        check_storage(str(tmp_path / name), space)


def check_storage(location: str, space: Space) -> None:
    study = make_study(space, open_storage(location), "s")
    finish(study, space, [0.4, 0.5])
    killed = make_searcher(study, space, "b")
    killed.suggest("t")
    again = open_study(location, "s")
    assert [trial.state.name for trial in again.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    next_driver = make_searcher(make_study(space, open_storage(location), "s"), space, "b", 0)
    assert next_driver.suggest("t")[TRIAL] == {"number": 2, "resume": True}
    next_driver.on_trial_complete("t", result(0.7, 1, **{FINISHED: True}))
    assert best_row(list_trials(open_study(location), space))["value"] == 0.7


def test_a_storage_error_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match="no study absent") as caught:
        open_study(str(tmp_path / "new.db"), "absent")
    assert "\n" not in str(caught.value)
    with pytest.raises(IrmasError, match=r"cannot open the study at .*: No such file or directory"):
        open_study(str(tmp_path / "nowhere" / "journal.log"))
    with pytest.raises(IrmasError, match="cannot open the study") as caught:
        open_storage(str(tmp_path / "no" / "such" / "place.db"))
    assert "\n" not in str(caught.value)


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

"""The study says of every trial how it ended, whoever ran it, and wherever it is kept."""

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
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.tune.search import Searcher

from irmas_dist.config.recipe import Recipe
from irmas_dist.errors import IrmasError
from irmas_dist.search.callback import describe_error
from irmas_dist.search.samplers import best_points, build_sampler, enqueue
from irmas_dist.search.schedulers import build_scheduler, most_epochs, replay
from irmas_dist.search.searcher import MOST_NODES, StudySearcher
from irmas_dist.search.space import Space, build_space
from irmas_dist.search.study import (
    best_row,
    fail_unmarked_trials,
    importances,
    interrupted_trials,
    join_study,
    list_trials,
    open_storage,
    open_study,
    own_trials,
)
from irmas_dist.search.trial import EPOCH, FAILED, FINISHED, TRIAL
from irmas_dist.training.learner import SELECTED_BY
from tests.search.conftest import make_study


def searcher(study: optuna.Study, space: Space, sweep: str = "a", budget: int = 9) -> StudySearcher:
    return StudySearcher(study, space, sweep, budget, interrupted_trials(study, sweep))


def result(value: float, epoch: int, **more: object) -> dict:
    return {SELECTED_BY: value, EPOCH: epoch, "time_total_s": 1.0, **more}


@pytest.mark.parametrize(
    ("last", "state", "reason"),
    [
        (result(0.5, 2, **{FINISHED: True}), "COMPLETE", None),
        (result(0.5, 2, **{FINISHED: False}), "PRUNED", None),
        (result(float("nan"), 2, **{FINISHED: True}), "FAIL", "not a number"),
        (result(float("nan"), 0, **{FAILED: "the loss became nan"}), "FAIL", "became nan"),
    ],
)
def test_optuna_is_told_how_a_trial_ended(
    study: optuna.Study, space: Space, last: dict, state: str, reason: str | None
) -> None:
    tested = searcher(study, space)
    tested.suggest("t")
    tested.on_trial_result("t", result(0.4, 1))
    tested.on_trial_complete("t", last)
    (trial,) = study.trials
    assert trial.state.name == state
    (row,) = list_trials(study, space)
    if reason is None:
        assert trial.intermediate_values == {1: 0.4, 2: 0.5}
        assert trial.value == row["value"] == 0.5
    else:
        assert reason in row["reason"]


def test_a_trial_stopped_while_paused_is_pruned_with_its_last_value(
    study: optuna.Study, space: Space
) -> None:
    tested = searcher(study, space)
    tested.suggest("t")
    tested.on_trial_result("t", result(0.4, 1))
    tested.on_trial_complete("t")
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].value == 0.4


def test_a_trial_that_raised_fails_with_its_reason(study: optuna.Study, space: Space) -> None:
    tested = searcher(study, space)
    tested.suggest("t")
    tested.on_trial_complete("t", error=True)
    tested.fail("t", "out of memory")
    assert study.trials[0].state == TrialState.FAIL
    assert list_trials(study, space)[0]["reason"] == "out of memory"


def test_a_trial_whose_node_died_comes_back_as_the_same_trial(
    study: optuna.Study, space: Space
) -> None:
    tested = searcher(study, space, budget=1)
    first = tested.suggest("t")
    tested.on_trial_result("t", result(0.4, 1))
    assert tested.suggest("wait") is None
    tested.on_trial_complete("t", error=True)
    assert tested.postpone("t")
    again = tested.suggest("u")
    assert again == {**first, TRIAL: {"number": 0, "resume": True}}
    tested.on_trial_result("u", result(0.4, 1))
    tested.on_trial_complete("u", result(0.6, 2, **{FINISHED: True}))
    assert tested.suggest("v") == Searcher.FINISHED
    (trial,) = study.trials
    assert (trial.value, trial.intermediate_values) == (0.6, {1: 0.4, 2: 0.6})


def test_a_trial_that_loses_node_after_node_does_not_come_back_for_ever(
    study: optuna.Study, space: Space
) -> None:
    tested = searcher(study, space, budget=1)
    for _ in range(MOST_NODES):
        tested.suggest("t")
        assert tested.postpone("t")
    tested.suggest("t")
    assert not tested.postpone("t")
    tested.fail("t", "its node was lost")
    assert tested.suggest("u") == Searcher.FINISHED


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ActorUnavailableError("RpcError: Socket closed", None), "its node was lost, and 3 others"),
        (ActorDiedError(), "its worker process ended"),
    ],
)
def test_a_lost_node_is_told_from_a_worker_that_died(error: Exception, reason: str) -> None:
    assert describe_error(error, None).startswith(reason)


def test_an_interrupted_trial_goes_on_with_its_values_and_none_runs_twice(
    study: optuna.Study, space: Space
) -> None:
    killed = searcher(study, space, budget=3)
    drawn = {name: killed.suggest(name) for name in "abc"}
    killed.on_trial_result("b", result(0.3, 1))
    killed.on_trial_complete("a", result(0.5, 2, **{FINISHED: True}))
    # Nothing is told of b and c: their driver is gone.
    heir = searcher(study, space, budget=0)
    again = [heir.suggest(name) for name in "xy"]
    assert again == [
        {**drawn[name], TRIAL: {"number": number, "resume": True}}
        for number, name in ((1, "b"), (2, "c"))
    ]
    for name in "xy":
        heir.on_trial_complete(name, result(0.6, 2, **{FINISHED: True}))
    assert heir.suggest("z") == Searcher.FINISHED
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3


def test_two_drivers_of_one_study_leave_each_others_trials_alone(
    study: optuna.Study, space: Space
) -> None:
    one, other = searcher(study, space, "one", 2), searcher(study, space, "other", 1)
    one.suggest("t")
    other.suggest("t")
    fail_unmarked_trials(study)
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "RUNNING"]
    assert [trial.number for trial in interrupted_trials(study, "one")] == [0]
    assert [trial.number for trial in own_trials(study, "other")] == [1]
    # A new driver of one sweep goes on with its own trial only.
    heir = searcher(study, space, "one", 0)
    assert heir.suggest("u")[TRIAL]["number"] == 0
    assert heir.suggest("v") is None


def test_a_trial_that_no_driver_could_mark_has_failed_after_a_while(
    study: optuna.Study, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.ask()
    fail_unmarked_trials(study)
    assert study.trials[0].state == TrialState.RUNNING
    monkeypatch.setattr("irmas_dist.search.study.UNMARKED", timedelta(0))
    fail_unmarked_trials(study)
    assert study.trials[0].state == TrialState.FAIL


def finish(study: optuna.Study, space: Space, values: list[float]) -> None:
    tested = searcher(study, space, budget=len(values))
    for value in values:
        tested.suggest("t")
        tested.on_trial_complete("t", result(value, 1, **{FINISHED: True}))


def test_a_warm_start_tries_the_best_points_first(
    study: optuna.Study, space: Space, tmp_path: Path
) -> None:
    finish(study, space, [0.1, 0.6, 0.3])
    earlier = open_study(str(tmp_path / "study.db"))
    fresh = make_study(space, open_storage(str(tmp_path / "next.db")))
    points = best_points(earlier, space)
    assert enqueue(fresh, points) == 3
    assert enqueue(fresh, points) == 0
    drawn = searcher(fresh, space).suggest("t")
    best = best_row(list_trials(study, space))
    assert {name: v for name, v in drawn.items() if name != TRIAL} == best["params"]


def test_a_warm_start_takes_what_still_lies_in_the_space(study: optuna.Study, space: Space) -> None:
    finish(study, space, [0.1, 0.6, 0.3])
    other = build_space(
        {"model.head": {"type": "categorical", "choices": ["max", "average"]}}, Recipe(), "test"
    )
    assert all(point == {"model.head": "max"} for point in best_points(study, other))


def test_one_of_several_studies_is_named_behind_its_storage(space: Space, tmp_path: Path) -> None:
    place = str(tmp_path / "both.db")
    for name in ("one", "two"):
        make_study(space, open_storage(place), name)
    assert open_study(f"{place}#two").study_name == "two"
    with pytest.raises(IrmasError, match=r"several studies \(one, two\); name one: .*both\.db#one"):
        open_study(place)
    with pytest.raises(IrmasError, match="no study three; it has: one, two"):
        open_study(f"{place}#three")


def test_sweeps_share_a_study_only_when_they_search_the_same(
    study: optuna.Study, space: Space
) -> None:
    searched = {"recipe": "r", "space": "s", "features": "f"}
    assert not join_study(study, "a", searched)
    assert not join_study(study, "a", searched)  # it goes on
    assert join_study(study, "b", searched)
    assert join_study(study, "a", searched)
    for what in searched:
        with pytest.raises(IrmasError, match=f"another {what}: name another directory"):
            join_study(study, "c", searched | {what: "other"})


def test_a_study_that_no_sweep_made_is_not_joined(study: optuna.Study, space: Space) -> None:
    finish(study, space, [0.1])
    with pytest.raises(IrmasError, match="another recipe"):
        join_study(study, "a", {"recipe": "r"})


def test_a_grid_has_every_combination_once(space: Space) -> None:
    entries = {name: value for name, value in space.describe().items() if name != "training.lr"}
    grid = build_space(entries, Recipe(), "test").grid()
    assert len(grid) == 2 * (1 + 4)  # model.dense is searched with one head only
    assert len({tuple(sorted(point.items())) for point in grid}) == len(grid)
    with pytest.raises(IrmasError, match=r"training\.lr has neither"):
        space.grid()


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "nsga2"])
def test_every_sampler_draws_the_same_for_the_same_seed(name: str, space: Space) -> None:
    def draw() -> list[dict]:
        sampler = build_sampler(name, space, 3, 1)
        made = optuna.create_study(sampler=sampler, direction="maximize")
        for value in (0.1, 0.4, 0.2):
            trial = made.ask()
            space(trial)
            made.tell(trial, value)
        return [trial.params for trial in made.trials]

    assert draw() == draw()


def test_two_objectives_are_told_together(space: Space, tmp_path: Path) -> None:
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path}/two.db",
        sampler=build_sampler("nsga2", space, 0, 2),
        directions=["maximize", "minimize"],
    )
    tested = StudySearcher(study, space, "a", 1, [], "parameters")
    tested.suggest("t")
    tested.on_trial_result("t", result(0.4, 1, parameters=10))
    tested.on_trial_complete("t", result(0.5, 2, parameters=10, **{FINISHED: True}))
    assert study.trials[0].values == [0.5, 10]
    (row,) = list_trials(study, space)
    assert (row["value"], row["second"], row["curve"]) == (0.5, 10, [0.4, 0.5])


def test_a_trial_goes_on_with_the_values_that_a_population_gave_it(
    study: optuna.Study, space: Space
) -> None:
    tested = searcher(study, space)
    drawn = tested.suggest("t")
    assert isinstance(drawn, dict)
    tested.on_trial_result("t", result(0.3, 1, **{f"config/{k}": v for k, v in drawn.items()}))
    assert list_trials(study, space)[0]["params"] == space.values(study.trials[0].params)
    changed = {"model.head": "max", "model.dense": 128, "augment.mix.counts": (2, 1)}
    changed["training.lr"] = 5e-3
    tested.on_trial_result("t", result(0.4, 2, **{f"config/{k}": v for k, v in changed.items()}))
    again = searcher(study, space).suggest("u")
    assert isinstance(again, dict)
    assert again.pop(TRIAL) == {"number": 0, "resume": True}
    as_written = changed | {"augment.mix.counts": [2, 1]}
    assert again == as_written
    assert list_trials(study, space)[0]["params"] == as_written


def test_a_trial_that_takes_over_weights_has_a_value_for_every_epoch(
    study: optuna.Study, space: Space
) -> None:
    """Of a trial that was ahead, and then of one that was behind."""
    tested = searcher(study, space)
    tested.suggest("t")
    for epoch, value in [(1, 0.3), (4, 0.6), (5, 0.7), (3, 0.5), (4, 0.55), (5, 0.8), (6, 0.9)]:
        tested.on_trial_result("t", result(value, epoch))
    before = [0.3, 0.3, 0.3, 0.6, 0.7]
    (trial,) = study.get_trials()
    assert [trial.intermediate_values[step] for step in range(1, 7)] == [*before, 0.9]
    tested.on_trial_complete("t", result(0.9, 6, **{FINISHED: True}))
    (row,) = list_trials(study, space)
    assert (row["epochs"], row["curve"]) == (6, [*before, 0.9])


def test_a_trial_may_begin_with_the_weights_of_another(study: optuna.Study, space: Space) -> None:
    tested = searcher(study, space)
    tested.suggest("t")
    tested.on_trial_result("t", result(0.6, 3))
    assert list_trials(study, space)[0]["curve"] == [0.6, 0.6, 0.6]


def test_importances_are_those_for_macro_f1_whatever_else_is_searched() -> None:
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


@pytest.mark.parametrize(
    ("entry", "most"),
    [
        (None, 10),
        ({"type": "int", "low": 5, "high": 40}, 40),
        ({"type": "int", "low": 2, "high": 4}, 4),
        ({"type": "categorical", "choices": [8, 30, 20]}, 30),
        ({"type": "int", "low": 2, "high": 4, "when": {"model.head": "max"}}, 10),
    ],
)
def test_a_trial_may_have_as_many_epochs_as_the_space_gives_it(
    entry: dict[str, object] | None, most: int
) -> None:
    entries = {"model.head": {"type": "categorical", "choices": ["flatten", "max"]}}
    entries |= {"training.epochs": entry} if entry else {}
    assert most_epochs(build_space(entries, Recipe(), "the test"), 10) == most


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_scheduler_remembers_what_trials_reported_before(
    name: str, study: optuna.Study, space: Space
) -> None:
    before = searcher(study, space)
    for value in (0.5, 0.6, 0.7, 0.8):
        before.suggest("t")
        before.on_trial_result("t", result(value, 1))
        before.on_trial_complete("t", result(value, 2, **{FINISHED: False}))
    scheduler = build_scheduler(name, space, epochs=9, grace=1, reduction=3)
    replay(scheduler, study)

    new = TuneTrial("new", 4, resume=False)
    scheduler.on_trial_add(None, new)
    poor = {EPOCH: 1, SELECTED_BY: 0.1}
    assert scheduler.on_trial_result(None, new, poor) == "STOP"


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_resumed_trial_is_not_judged_again_by_what_it_did_before(
    name: str, study: optuna.Study, space: Space
) -> None:
    """It was among the best at its second epoch; the others that came after were better."""
    before = searcher(study, space)
    before.suggest("first")
    for epoch in (1, 2):
        before.on_trial_result("first", result(0.5, epoch))
    for value in (0.6, 0.9, 0.8, 0.3):
        before.suggest("t")
        for epoch in (1, 2, 3):
            before.on_trial_result("t", result(value if epoch < 3 else 0.2, epoch))
        before.on_trial_complete("t", result(0.2, 3, **{FINISHED: True}))
    after = searcher(study, space)
    config = after.suggest("again")
    assert config[TRIAL] == {"number": 0, "resume": True}
    scheduler = build_scheduler(name, space, epochs=9, grace=2, reduction=3)
    replay(scheduler, study, [0])
    resumed = TuneTrial("again", 0, resume=True)
    scheduler.on_trial_add(None, resumed)
    going_on = {EPOCH: 3, SELECTED_BY: 0.55}
    assert scheduler.on_trial_result(None, resumed, going_on) == "CONTINUE"


class TuneTrial:
    """What schedulers look at of a trial of Tune."""

    def __init__(self, trial_id: str, number: int, *, resume: bool) -> None:
        self.trial_id = trial_id
        self.config = {TRIAL: {"number": number, "resume": resume}}


def test_studies_are_kept_in_sqlite_and_in_journals(tmp_path: Path, space: Space) -> None:
    for name in ("study.db", "study.log"):
        keeps_a_study(str(tmp_path / name), space)


def keeps_a_study(location: str, space: Space) -> None:
    study = make_study(space, open_storage(location), "s")
    finish(study, space, [0.4, 0.5])
    killed = searcher(study, space, "b")
    killed.suggest("t")
    again = open_study(location, "s")
    assert [trial.state.name for trial in again.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    heir = searcher(make_study(space, open_storage(location), "s"), space, "b", 0)
    assert heir.suggest("t")[TRIAL] == {"number": 2, "resume": True}
    heir.on_trial_complete("t", result(0.7, 1, **{FINISHED: True}))
    assert best_row(list_trials(open_study(location), space))["value"] == 0.7


def test_what_is_wrong_with_a_storage_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match="no study there") as caught:
        open_study(str(tmp_path / "new.db"), "there")
    assert "\n" not in str(caught.value)
    with pytest.raises(IrmasError, match=r"cannot open the study at .*: No such file or directory"):
        open_study(str(tmp_path / "nowhere" / "journal.log"))
    with pytest.raises(IrmasError, match="cannot open the study") as caught:
        open_storage(str(tmp_path / "no" / "such" / "place.db"))
    assert "\n" not in str(caught.value)


POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of its own on the loopback interface, as a user that may run one."""
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


def test_studies_are_kept_in_postgresql(postgres: str, space: Space) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install .[postgres])")
    keeps_a_study(postgres, space)


def test_a_database_that_does_not_answer_is_one_line_without_the_password() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install .[postgres])")
    with pytest.raises(IrmasError, match="cannot open the study at postgresql://me@") as caught:
        open_storage("postgresql://me:secret@127.0.0.1:9/none")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)

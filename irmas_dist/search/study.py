"""The Optuna study: its storage, the trials of each sweep in it, and their outcomes.

The study is the state of a sweep. A driver marks every trial that it starts with the identity
of its sweep, so that several drivers can share one study: each resumes its own interrupted
trials only.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from irmas_dist.errors import IrmasError
from irmas_dist.search.space import Space

# Attributes of a trial:
SWEEP = "sweep"  # identity of its sweep
VALUES = "values"  # its values after population-based training changed them
OUTCOME = "outcome"  # its outcome beyond its value, see `list_trials`

# Attribute of a study:
SEARCHED = "searched"  # digests of recipe, space and features, see `SweepRecord.digests`

UNMARKED = timedelta(minutes=1)
"""A running trial that no sweep has marked for so long has lost its driver."""

STATES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def open_storage(location: str) -> BaseStorage:
    """Open the storage of a study.

    Args:
        location: A path ending in ``.log`` (journal file), any other path (SQLite), or the
            URL of a database, such as ``postgresql://user@host/database``.

    Raises:
        IrmasError: The storage cannot be opened.
    """
    if location.endswith(".log"):
        try:
            return JournalStorage(JournalFileBackend(location))
        except OSError as error:
            raise IrmasError(f"cannot open the study at {location}: {error.strerror}") from error
    url = location if "://" in location else f"sqlite:///{location}"
    # The extra installs psycopg 3; SQLAlchemy's default is its predecessor.
    for plain in ("postgresql://", "postgres://"):
        if url.startswith(plain):
            url = "postgresql+psycopg://" + url.removeprefix(plain)
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except (ImportError, optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, ModuleNotFoundError):
            raise IrmasError(
                f"this study needs {cause.name}: pip install 'irmas-dist[postgres]'"
            ) from error
        reason = " ".join(str(cause).split("\n[SQL")[0].split("\n(Background")[0].split())
        raise IrmasError(f"cannot open the study at {_public(location)}: {reason}") from error


def _public(location: str) -> str:
    """Return a location without its password."""
    scheme, marker, rest = location.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{marker}{user.split(':')[0]}{at}{host}" if marker else location


def open_study(location: str, name: str | None = None) -> optuna.Study:
    """Open an existing study.

    Args:
        location: As for `open_storage`; without a name also ``location#name``.
        name: Its name; none: the only study there.

    Raises:
        IrmasError: There is no such study, or several and no name.
    """
    if name is None and "#" in location:
        location, _, name = location.rpartition("#")
    storage = open_storage(location)
    names = optuna.get_all_study_names(storage)
    if name is None and len(names) > 1:
        raise IrmasError(
            f"{_public(location)} has several studies ({', '.join(names)}); "
            f"name one: {_public(location)}#{names[0]}"
        )
    name = name or next(iter(names), None)
    if name not in names:
        which = f"no study {name}" if name else "no study"
        raise IrmasError(f"{_public(location)} has {which}; it has: {', '.join(names) or 'none'}")
    return optuna.load_study(study_name=name, storage=storage)


def join_study(study: optuna.Study, sweep: str, searched: Mapping[str, str]) -> bool:
    """Register a sweep in a study.

    Args:
        study: The study.
        sweep: Identity of the sweep.
        searched: Digests of its recipe, space and features, the same for all sweeps of a study.

    Returns:
        Whether other sweeps share the study.

    Raises:
        IrmasError: The digests of the study differ, so that trials could not be compared.
    """
    digests = study.user_attrs.get(SEARCHED) or (
        {} if study.get_trials(deepcopy=False) else searched
    )
    for what, digest in searched.items():
        if digests.get(what) != digest:
            raise IrmasError(
                f"the study {study.study_name} searched with another {what}: "
                "name another directory, or another --study"
            )
    study.set_user_attr(SEARCHED, dict(searched))
    study.set_user_attr(f"{SWEEP} {sweep}", datetime.now().isoformat(timespec="seconds"))
    return any(name.startswith(f"{SWEEP} ") and name != f"{SWEEP} {sweep}"
               for name in study.user_attrs)  # fmt: skip


def own_trials(study: optuna.Study, sweep: str) -> list[FrozenTrial]:
    """Return the trials that a sweep has started, in order."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.user_attrs.get(SWEEP) == sweep]


def interrupted_trials(study: optuna.Study, sweep: str) -> list[FrozenTrial]:
    """Return the trials of a sweep that its last driver left running, in order.

    Only before the sweep is resumed: afterwards its running trials do run.
    """
    return [trial for trial in own_trials(study, sweep) if trial.state == TrialState.RUNNING]


def fail_unmarked_trials(study: optuna.Study) -> None:
    """Mark trials as failed whose driver died before it marked them as its own.

    A driver marks a trial as soon as it has started it, so unmarked trials of live drivers are
    young.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        started = trial.datetime_start or datetime.min
        if SWEEP not in trial.user_attrs and datetime.now() - started > UNMARKED:
            study.tell(trial.number, state=TrialState.FAIL)


def list_trials(study: optuna.Study, space: Space, live: bool = False) -> list[dict[str, Any]]:
    """Return one dict per trial, best first.

    Its ``number``; ``state`` (completed, pruned, failed, running or interrupted); ``value``,
    the best macro F1; ``curve``, the best value so far after each epoch; ``epochs``;
    ``seconds`` of training; ``params``, the values drawn (or, after population-based training,
    the last ones); ``parameters`` of the network; ``reason``, if it failed; ``second``, the
    value of the second objective, if any; ``instruments``, the metrics of each instrument.

    Args:
        study: The study.
        space: Its search space.
        live: Whether a driver runs the sweep; otherwise running trials are interrupted ones.
    """
    rows = [
        _row(trial, space, live)
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING
    ]
    return sorted(rows, key=lambda row: math.inf if row["value"] is None else -row["value"])


def _row(trial: FrozenTrial, space: Space, live: bool) -> dict[str, Any]:
    outcome: dict[str, Any] = trial.user_attrs.get(OUTCOME, {})
    state = STATES[trial.state]
    if state == "running" and not live:
        state = "interrupted"
    curve = outcome.get("curve") or [
        value for _, value in sorted(trial.intermediate_values.items())
    ]
    value, second = None, None
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        values = trial.values or [outcome.get("value")]
        value = values[0]
        second = values[1] if len(values) > 1 else None
    return {
        "number": trial.number,
        "state": state,
        "value": value,
        "second": second,
        "epochs": len(curve),
        "seconds": outcome.get("seconds"),
        "parameters": outcome.get("parameters"),
        "reason": outcome.get("reason"),
        "params": trial.user_attrs.get(VALUES) or space.values(trial.params),
        "curve": curve,
        "instruments": outcome.get("instruments"),
    }


def with_epoch(curve: Sequence[float], epoch: int, value: float) -> list[float]:
    """Return the best values so far after epochs 1 to ``epoch``.

    Args:
        curve: The values after earlier epochs. Some may be missing: a trial that takes over the
            weights of one that is ahead skips epochs, and keeps its best value for them.
        epoch: The epoch, from 1.
        value: The best value so far after it.
    """
    before = list(curve[: epoch - 1])
    best = before[-1] if before else value
    return [*before, *[best] * (epoch - 1 - len(before)), value]


def best_row(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the best completed trial, or the best of all when none is; from `list_trials`."""
    valued = [row for row in rows if row["value"] is not None]
    ended = [row for row in valued if row["state"] == "completed"]
    return next(iter(ended or valued), None)


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each entry for macro F1, in shares of one, the largest first.

    By PED-ANOVA (Watanabe, Bansal and Hutter 2023), which also covers conditional entries.
    Empty with fewer than four completed trials, or when all have the same value.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = {trial.values[0] for trial in trials}
    if len(trials) < 4 or len(values) < 2:
        return {}
    several = len(study.directions) > 1
    # Optuna minimises a given target.
    target = (lambda trial: -float(trial.values[0])) if several else None
    return optuna.importance.get_param_importances(study, target=target)


def directions(second: str | None) -> list[StudyDirection]:
    """Return the directions of macro F1 and of the second objective, if any."""
    return [StudyDirection.MAXIMIZE] + ([StudyDirection.MINIMIZE] if second else [])

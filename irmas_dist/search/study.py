"""The Optuna study: the trials of each sweep in it, and their outcomes.

The study is the state of a sweep. A driver marks every trial that it starts with the identity
of its sweep, so that several drivers can share one study: each resumes its own interrupted
trials only.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from irmas_dist.errors import IrmasError
from irmas_dist.search.space import Space
from irmas_dist.search.storages import file_of, open_storage, public_location

# Attributes of a trial:
SWEEP = "sweep"  # identity of its sweep
VALUES = "values"  # its values after population-based training changed them
OUTCOME = "outcome"  # its outcome beyond its value, see `list_trials`
CURVE = "curve"  # its best values so far by epoch, where Optuna takes no reports

# Attribute of a study:
DIGESTS = "searched"  # digests of recipe, space and features, see `SweepRecord.digests`

UNMARKED = timedelta(minutes=1)
"""A running trial of a shared study that no sweep has marked for so long has lost its driver; the
next driver that starts after that fails it."""

MIN_TRIALS = 8
"""With fewer completed trials there are no importances, and no advice on the next space."""

STATES = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
INTERRUPTED = "interrupted"
"""State of a trial that no process runs, and that the next resumes."""


def check_study(
    location: str,
    name: str,
    objectives: list[StudyDirection],
    searched: Mapping[str, str],
    resume: bool = False,
) -> None:
    """Refuse a study that a sweep cannot join or create; nothing is written.

    Args:
        location: As for `open_storage`.
        name: The name of the study.
        objectives: Of the sweep.
        searched: As for `join_study`.
        resume: Whether the study must be there, since it knows which trials have run.

    Raises:
        IrmasError: The study cannot be read or created, is not there to be resumed, or was made
            for another search.
    """
    file, lost = file_of(location), IrmasError(
        f"the study {name} is not at {public_location(location)}: restore it, or name where it "
        "is with --study; without it all trials would run again"
    )  # fmt: skip
    if file and not (file.exists() and file.stat().st_size):
        if resume:
            raise lost
        if not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
            raise IrmasError(f"the study {location} cannot be created: {file.parent} is no "
                             "directory, or not writable")  # fmt: skip
        return
    storage = open_storage(location)
    if name not in optuna.get_all_study_names(storage):
        if resume:
            raise lost
        return
    study = optuna.load_study(study_name=name, storage=storage)
    if study.directions != objectives:
        raise IrmasError(f"the study {name} has other objectives; name another directory")
    _require_same_search(study, searched)


def _require_same_search(study: optuna.Study, searched: Mapping[str, str]) -> None:
    digests = study.user_attrs.get(DIGESTS) or (
        {} if study.get_trials(deepcopy=False) else searched
    )
    for what, digest in searched.items():
        if digests.get(what) != digest:
            raise IrmasError(
                f"the study {study.study_name} searched with another {what}: "
                "name another directory, or another --study"
            )


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
    _require_same_search(study, searched)
    study.set_user_attr(DIGESTS, dict(searched))
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


def settle_unmarked_trials(study: optuna.Study, sweep: str, shared: bool) -> None:
    """Mark, or fail, trials whose driver died before it marked them as its own.

    A driver marks a trial as soon as it has started it, so unmarked trials of live drivers are
    young.

    Args:
        study: The study.
        sweep: Identity of the sweep; it has no live driver but this one.
        shared: Whether other sweeps share the study, which may have started them.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        started = trial.datetime_start or datetime.min
        if SWEEP in trial.user_attrs:
            continue
        if not shared:
            study._storage.set_trial_user_attr(trial._trial_id, SWEEP, sweep)
        elif datetime.now() - started > UNMARKED:
            study.tell(trial.number, state=TrialState.FAIL)


class TrialRow(TypedDict):
    """A trial, as in ``trials.json``."""

    number: int
    state: str
    """One of `STATES`, or `INTERRUPTED`."""
    value: float | None
    """The best macro F1."""
    second: float | None
    """Value of the second objective, if there is one."""
    epochs: int
    seconds: float | None
    """Of training."""
    parameters: int | None
    """Of the network."""
    reason: str | None
    """Why it failed."""
    params: dict[str, Any]
    """The values drawn or, after population-based training, the last ones."""
    curve: list[float]
    """The best macro F1 so far after each epoch."""
    instruments: list[dict[str, Any]] | None
    """Metrics of each instrument."""


def list_trials(study: optuna.Study, space: Space, live: bool = False) -> list[TrialRow]:
    """Return the trials that have begun, best first.

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


def _row(trial: FrozenTrial, space: Space, live: bool) -> TrialRow:
    outcome: dict[str, Any] = trial.user_attrs.get(OUTCOME, {})
    state = STATES[trial.state]
    if state == "running" and not live:
        state = INTERRUPTED
    curve = outcome.get("curve") or reported_curve(trial)
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


def reported_curve(trial: FrozenTrial) -> list[float]:
    """Return the best values so far that a trial has reported, by epoch."""
    values = [value for _, value in sorted(trial.intermediate_values.items())]
    return values or list(trial.user_attrs.get(CURVE, ()))


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


def best_row(rows: Iterable[TrialRow]) -> TrialRow | None:
    """Return the best completed trial, or the best of all when none is; from `list_trials`."""
    valued = [row for row in rows if row["value"] is not None]
    ended = [row for row in valued if row["state"] == "completed"]
    return next(iter(ended or valued), None)


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each entry for macro F1, in shares of one, the largest first.

    By PED-ANOVA (Watanabe, Bansal and Hutter 2023), which also covers conditional entries.
    Empty with fewer than `MIN_TRIALS` completed trials, when all have the same value, or when
    population-based training changed values: Optuna knows only those drawn.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = {trial.values[0] for trial in trials}
    changed = any(VALUES in trial.user_attrs for trial in trials)
    if len(trials) < MIN_TRIALS or len(values) < 2 or changed:
        return {}
    several = len(study.directions) > 1
    # Optuna minimises a given target.
    target = (lambda trial: -float(trial.values[0])) if several else None
    return optuna.importance.get_param_importances(study, target=target)


def directions(second: str | None) -> list[StudyDirection]:
    """Return the directions of macro F1 and of the second objective, if any."""
    return [StudyDirection.MAXIMIZE] + ([StudyDirection.MINIMIZE] if second else [])

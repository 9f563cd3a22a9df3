"""Optuna's samplers, which propose the trials, and points that run before theirs."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from irmas_dist.config.sweep import SamplerName
from irmas_dist.errors import IrmasError
from irmas_dist.search.entries import CategoricalEntry, as_choice
from irmas_dist.search.space import Space
from irmas_dist.search.study import VALUES

WARM_STARTS = 5
"""Number of best trials of an earlier study that run first."""


GENERATIONS = 5
"""Generations of a genetic algorithm with few trials: the first is drawn at random."""


def build_sampler(
    name: SamplerName, space: Space, seed: int, objectives: int, trials: int
) -> BaseSampler:
    """Build a sampler.

    Args:
        name: ``tpe``: tree-structured Parzen estimators, over all entries together and by
            group of entries that go together (Bergstra et al. 2011, Falkner et al. 2018);
            ``random``; ``grid``: every combination, see `Space.grid`; ``cmaes``: covariance
            matrix adaptation over numeric entries without conditions, the others drawn at
            random (Hansen 2016); ``nsga2``: a genetic algorithm for two
            objectives (Deb et al. 2002).
        space: The search space.
        seed: Seed of the draws.
        objectives: Number of objectives, 1 or 2.
        trials: Number of trials of the sweep.

    Raises:
        IrmasError: The sampler does not support this space or number of objectives.
    """
    if name == "tpe":
        # Conditional entries need group, which models together what is searched together.
        return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
    if name == "nsga2":
        # Optuna's default of 50 would leave fewer trials than that to chance.
        population = min(max(trials // GENERATIONS, 2), 50)
        return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    if name == "cmaes":
        entries = space.entries.values()
        if not any(not isinstance(entry, CategoricalEntry) and not entry.when for entry in entries):
            raise IrmasError(
                "cmaes needs a float or int entry that is always searched; use tpe for this space"
            )
        if objectives > 1:
            raise IrmasError("cmaes has one objective; use nsga2 or tpe for two")
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    # The points of a grid are queued, and leave nothing to be drawn.
    return optuna.samplers.RandomSampler(seed=seed)


def enqueue(study: optuna.Study, points: Iterable[dict[str, Any]], most: int | None = None) -> int:
    """Queue points, as from `Space.stored`, to run first unless a trial has them.

    Args:
        study: The study.
        points: The points.
        most: Number of points to queue; none: all.

    Returns:
        The number of queued points.
    """
    known = {
        frozenset((trial.system_attrs.get("fixed_params") or trial.params).items())
        for trial in study.get_trials(deepcopy=False)
    }
    unknown = (point for point in points if point and frozenset(point.items()) not in known)
    new = list(islice(unknown, most))
    for point in new:
        study.enqueue_trial(point)
    return len(new)


def best_points(earlier: optuna.Study, space: Space) -> list[dict[str, Any]]:
    """Return the best points of an earlier study, restricted to values that a space can draw.

    Best by its first objective, which may be one to minimise.

    The sampler draws the values of the other entries.

    Raises:
        IrmasError: No completed trial has a value inside the space.
    """
    completed = earlier.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    completed.sort(
        key=lambda trial: trial.values[0],
        reverse=earlier.directions[0] == StudyDirection.MAXIMIZE,
    )
    points: list[dict[str, Any]] = []
    for trial in completed:
        # What population-based training has changed is stored as a recipe has it.
        changed = trial.user_attrs.get(VALUES, {})
        known = {name: as_choice(value) for name, value in changed.items()}
        point = space.stored(known or space.values(trial.params))
        if point and point not in points:
            points.append(point)
    if not points:
        raise IrmasError(f"no completed trial of the study {earlier.study_name} lies in this space")
    return points[:WARM_STARTS]

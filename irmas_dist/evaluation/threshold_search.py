"""Thresholds for any objective at all, by Optuna and line searches.

`thresholds` fits F1 exactly. Other objectives need not fall apart into instruments: whether a
clip's set of instruments is exactly right depends on all thresholds at once. Here Optuna
proposes where to start, and from there one instrument's threshold after the other is put where
the objective is highest, until none can be improved on its own. A line search judges all its
candidates in one batch, so that thousands of thresholds are tried each second; Optuna's share
is a few dozen starts, the first of which is the exact optimum of each instrument's F1.
"""

from itertools import count

import numpy as np
import numpy.typing as npt
import optuna

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.arrays import Labels, ScoreArray
from irmas_dist.evaluation.objectives import Booleans, Objective
from irmas_dist.evaluation.operating_points import operating_points
from irmas_dist.evaluation.thresholds import fit_thresholds

STARTS = 24
"""Optuna's trials."""

COARSE = 48
"""Thresholds of one instrument that a line search tries; the last rounds try all there are."""

BATCH_BYTES = 1 << 22
"""Decisions that are judged at once: more than this no longer fits into a core's cache."""

Thresholds = npt.NDArray[np.float32]


def search_thresholds(
    labels: Labels, scores: ScoreArray, objective: Objective, starts: int = STARTS, seed: int = 0
) -> Thresholds:
    """Return thresholds of which none can be changed alone to a higher objective.

    Never worse than the thresholds that are best for each instrument's F1. Where the objective
    is a sum over instruments, this is the global optimum.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        scores: Shape (clips, instruments), from 0 to 1.
        objective: What is made as large as possible; see `objectives`.
        starts: From how many places to begin.
        seed: The same seed finds the same thresholds.

    Returns:
        float32, shape (instruments,).
    """
    lines = _Lines(labels, scores, objective)
    instruments = labels.shape[1]
    exact = fit_thresholds(labels, scores, ThresholdSettings())
    begin = [lines.nearest(i, exact[i]) for i in range(instruments)]
    most = [len(points) - 1 for points in lines.thresholds]
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else each study is announced
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=starts // 2),
    )
    optuna.logging.set_verbosity(verbosity)
    study.enqueue_trial({str(i): place / max(most[i], 1) for i, place in enumerate(begin)})
    shares = {str(i): optuna.distributions.FloatDistribution(0, 1) for i in range(instruments)}
    best_value, best = -np.inf, begin
    for number in range(starts):
        trial = study.ask(shares)
        proposed = [round(trial.params[str(i)] * most[i]) for i in range(instruments)]
        value, places = lines.climb(proposed if number else begin, COARSE)
        study.tell(trial, value)
        if value > best_value:
            best_value, best = value, places
    _, best = lines.climb(best, None)
    return np.array([lines.thresholds[i][place] for i, place in enumerate(best)], np.float32)


def best_global_threshold(labels: Labels, scores: ScoreArray, objective: Objective) -> Thresholds:
    """Return the one threshold for all instruments that is best of all there are."""
    lines = _Lines(labels, scores, objective)
    thresholds = operating_points(labels.ravel(), scores.ravel()).thresholds
    values = np.concatenate([
        lines.judge(lines.scores >= some[:, None, None])
        for some in np.array_split(thresholds, -(-len(thresholds) // lines.batch))
    ])  # fmt: skip
    return np.full(labels.shape[1], thresholds[values.argmax()], np.float32)


class _Lines:
    """Searches along one instrument's thresholds while the others' stay where they are.

    Attributes:
        thresholds: Of each instrument all that differ in some decision, falling.
        scores: float32, shape (clips, instruments).
        batch: Candidates that are judged at once.
    """

    def __init__(self, labels: Labels, scores: ScoreArray, objective: Objective) -> None:
        self._labels = labels.astype(np.bool_)
        self._objective = objective
        self.scores = scores.astype(np.float32)
        self.batch = max(BATCH_BYTES // labels.size, 1)
        columns = range(labels.shape[1])
        self.thresholds = [operating_points(labels[:, i], scores[:, i]).thresholds for i in columns]

    def nearest(self, instrument: int, threshold: np.float32) -> int:
        """Return the place of a threshold among the instrument's."""
        return int(np.abs(self.thresholds[instrument] - threshold).argmin())

    def judge(self, candidates: Booleans) -> npt.NDArray[np.float64]:
        """Return the objective of each candidate, shape (candidates, clips, instruments)."""
        return self._objective(self._labels, candidates)

    def climb(self, start: list[int], coarse: int | None) -> tuple[float, list[int]]:
        """Improve one instrument after the other until none can be; return value and places.

        Args:
            start: Where to begin: a place among the thresholds of each instrument.
            coarse: Thresholds to try for each instrument, evenly spread; None for all.
        """
        places = list(start)
        chosen = [self.thresholds[i][place] for i, place in enumerate(places)]
        decisions = self.scores >= np.array(chosen, np.float32)
        value = float(self.judge(decisions[None])[0])
        without_gain = 0
        for turn in count():
            i = turn % len(places)
            if without_gain == len(places):
                return value, places
            found, place = self._along(i, decisions, coarse)
            without_gain = 0 if found > value else without_gain + 1
            if found > value:
                value, places[i] = found, place
                decisions[:, i] = self.scores[:, i] >= self.thresholds[i][place]
        raise AssertionError

    def _along(self, i: int, decisions: Booleans, coarse: int | None) -> tuple[float, int]:
        """Return the highest value along one instrument's thresholds, and its place."""
        last = len(self.thresholds[i]) - 1
        steps = last + 1 if coarse is None else min(coarse, last + 1)
        places = np.unique(np.linspace(0, last, steps).round().astype(np.int64))
        values = []
        for some in np.array_split(places, -(-len(places) // self.batch)):
            candidates = np.repeat(decisions[None], len(some), axis=0)
            candidates[:, :, i] = self.scores[:, i] >= self.thresholds[i][some][:, None]
            values.append(self.judge(candidates))
        together = np.concatenate(values)
        best = int(together.argmax())
        return float(together[best]), int(places[best])

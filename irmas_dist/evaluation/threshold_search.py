"""Thresholds for any objective, by Optuna and line searches.

An objective need not be a sum over instruments: whether a clip's set of instruments is exactly
right depends on all thresholds at once. Optuna proposes starting points, and from each one
coordinate ascent puts one instrument's threshold after the other where the objective is highest,
until none can be improved alone. A line search evaluates all its candidates in one batch, so
that thousands of thresholds are tried each second; Optuna proposes a few dozen starting points,
after the first, which is the exact optimum of each instrument's F1.
"""

import numpy as np
import optuna

from irmas_dist.evaluation.arrays import Booleans, Float64, Labels, ScoreArray, Thresholds
from irmas_dist.evaluation.exact_thresholds import best_thresholds_for_f1
from irmas_dist.evaluation.objectives import Objective
from irmas_dist.evaluation.operating_points import operating_points
from irmas_dist.instruments import UNKNOWN

STARTS = 24
"""Optuna's trials."""

COARSE = 48
"""Thresholds of one instrument that a line search tries; the last rounds try all of them."""

BATCH_BYTES = 1 << 22
"""Decisions that are evaluated at once: a larger batch does not fit into a core's cache."""


def search_thresholds(
    labels: Labels, scores: ScoreArray, objective: Objective, starts: int = STARTS, seed: int = 0
) -> Thresholds:
    """Return thresholds of which none can be changed alone to a higher objective.

    Never worse than the thresholds that are best for each instrument's F1. Where the objective
    is a sum over instruments, this is the global optimum. The same seed finds the same thresholds.
    """
    lines = _LineSearch(labels, scores, objective)
    instruments = labels.shape[1]
    exact = best_thresholds_for_f1(labels, scores, "macro")
    begin = [int(np.abs(lines.thresholds[i] - exact[i]).argmin()) for i in range(instruments)]
    last = [len(thresholds) - 1 for thresholds in lines.thresholds]
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else each study is announced
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=starts // 2),
    )
    optuna.logging.set_verbosity(verbosity)
    study.enqueue_trial({str(i): index / max(last[i], 1) for i, index in enumerate(begin)})
    shares = {str(i): optuna.distributions.FloatDistribution(0, 1) for i in range(instruments)}
    best_value, best = -np.inf, begin
    for number in range(starts):
        trial = study.ask(shares)
        proposed = [round(trial.params[str(i)] * last[i]) for i in range(instruments)]
        value, indices = lines.climb(proposed if number else begin, COARSE)
        study.tell(trial, value)
        if value > best_value:
            best_value, best = value, indices
    _, best = lines.climb(best, None)
    return np.array([lines.thresholds[i][index] for i, index in enumerate(best)], np.float32)


def best_global_threshold(labels: Labels, scores: ScoreArray, objective: Objective) -> Thresholds:
    """Return the one threshold for all instruments with the highest objective."""
    lines = _LineSearch(labels, scores, objective)
    known = labels != UNKNOWN
    thresholds = operating_points(labels[known], scores[known]).thresholds
    values = np.concatenate([
        lines.values(lines.scores >= some[:, None, None])
        for some in np.array_split(thresholds, -(-len(thresholds) // lines.batch))
    ])  # fmt: skip
    return np.full(labels.shape[1], thresholds[values.argmax()], np.float32)


class _LineSearch:
    """Searches along one instrument's thresholds while those of the others are fixed.

    Attributes:
        thresholds: Of each instrument all that give different decisions, falling.
        scores: float32, shape (clips, instruments).
        batch: Candidates that are evaluated at once.
    """

    def __init__(self, labels: Labels, scores: ScoreArray, objective: Objective) -> None:
        self._labels, self._known = labels == 1, labels != UNKNOWN
        self._objective = objective
        self.scores = scores.astype(np.float32)
        self.batch = max(BATCH_BYTES // labels.size, 1)
        self.thresholds = [
            operating_points(labels[rows, i], scores[rows, i]).thresholds
            for i, rows in enumerate(self._known.T)
        ]

    def values(self, candidates: Booleans) -> Float64:
        """Return the objective of each candidate, shape (candidates, clips, instruments)."""
        return self._objective(self._labels, candidates & self._known)

    def climb(self, start: list[int], coarse: int | None) -> tuple[float, list[int]]:
        """Improve one instrument after the other until none can be; return value and indices.

        Args:
            start: An index into the thresholds of each instrument.
            coarse: Thresholds to try for each instrument, evenly spread; None for all.
        """
        indices = list(start)
        chosen = [self.thresholds[i][index] for i, index in enumerate(indices)]
        decisions = self.scores >= np.array(chosen, np.float32)
        value = float(self.values(decisions[None])[0])
        i = without_gain = 0
        while without_gain < len(indices):
            found, index = self._along(i, decisions, coarse)
            without_gain += 1
            if found > value:
                value, indices[i], without_gain = found, index, 0
                decisions[:, i] = self.scores[:, i] >= self.thresholds[i][index]
            i = (i + 1) % len(indices)
        return value, indices

    def _along(self, i: int, decisions: Booleans, coarse: int | None) -> tuple[float, int]:
        """Return the highest value along one instrument's thresholds, and its index."""
        last = len(self.thresholds[i]) - 1
        steps = last + 1 if coarse is None else min(coarse, last + 1)
        indices = np.unique(np.linspace(0, last, steps).round().astype(np.int64))
        values = []
        for some in np.array_split(indices, -(-len(indices) // self.batch)):
            candidates = np.repeat(decisions[None], len(some), axis=0)
            candidates[:, :, i] = self.scores[:, i] >= self.thresholds[i][some][:, None]
            values.append(self.values(candidates))
        together = np.concatenate(values)
        best = int(together.argmax())
        return float(together[best]), int(indices[best])

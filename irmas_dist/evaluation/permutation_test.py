"""Whether a difference between two models is significant: a permutation test over songs.

If two models are equally good, who of them has scored a song does not matter. Their results are
therefore swapped, each song with probability 1/2, and the p-value is the share of swaps whose
difference is at least as large as the one found (Fisher's randomisation test; for pairs of systems
Noreen, "Computer-intensive methods for testing hypotheses", 1989). Of equally good models it is
below 0.05 in 5 % of cases, however few the songs: p-values of bootstrap samples are in up to a
third for mAP of eight songs.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from irmas_dist.evaluation.arrays import Decisions, Float64, Labels, ScoreArray
from irmas_dist.evaluation.bootstrap import RESAMPLES, Draws
from irmas_dist.evaluation.metrics import decision_figures, macro_mean
from irmas_dist.evaluation.ranking import average_precision, clip_lrap
from irmas_dist.instruments import UNKNOWN

ROUNDING = 1e-9
"""Differences that are closer than this are the same."""


class Judged(NamedTuple):
    """What a model says of the clips: scores and decisions, shape (clips, instruments)."""

    scores: ScoreArray
    decisions: Decisions


def p_values(
    labels: Labels, first: Judged, second: Judged, draws: Draws, swaps: int = RESAMPLES
) -> Mapping[str, float]:
    """Return the two-sided p-value of each difference that models are compared by.

    The smallest possible value is 1 / (swaps + 1), and of few songs `least_p_value`.

    Args:
        labels: Of the clips, shape (clips, instruments).
        first: Of one model.
        second: Of the other.
        draws: Which clips are of a song, as from `draw_songs`.
        swaps: Number of random swaps, always the same ones.
    """
    kept = np.random.default_rng(0).integers(0, 2, (swaps, draws.songs)).astype(np.float64)
    kept = np.concatenate([np.ones((1, draws.songs)), kept])
    # Both models' clips are one set, of which each draw takes every clip once, of either model.
    song = np.concatenate([draws.song, draws.songs + draws.song])
    times = np.concatenate([np.hstack([kept, 1 - kept]), np.hstack([1 - kept, kept])])
    figures = _figures(np.tile(labels, (2, 1)), first, second, Draws(song, times))
    gaps = {name: np.subtract(*values.reshape(2, -1)) for name, values in figures.items()}
    return {
        name: (int((np.abs(gap[1:]) >= abs(gap[0]) - ROUNDING).sum()) + 1) / (swaps + 1)
        for name, gap in gaps.items()
    }


def least_p_value(songs: int) -> float:
    """Return the p-value where one model is better on all of so few songs."""
    return min(2.0 ** (1 - songs), 1.0)


def _figures(labels: Labels, first: Judged, second: Judged, draws: Draws) -> dict[str, Float64]:
    """Return what models are compared by, on each draw of the clips of both."""
    known = labels != UNKNOWN
    decided = decision_figures(labels, np.concatenate([first.decisions, second.decisions]), draws)
    lrap = clip_lrap(labels, np.concatenate([first.scores, second.scores]))
    # Ranks among a model's own clips, as two models' scores may be of other scales.
    ranks = np.concatenate([rankdata(one.scores, axis=0) for one in (first, second)])
    precision = average_precision(labels, ranks.astype(np.float32), draws)
    return {
        "micro_f1": decided.overall["micro_f1"],
        "macro_f1": decided.overall["macro_f1"],
        "lrap": draws.means(lrap, known.any(axis=1)),
        "map": macro_mean(precision, draws.sums(known)),
    }

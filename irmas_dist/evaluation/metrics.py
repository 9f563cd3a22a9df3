"""Metrics of multilabel instrument recognition.

Conventions
-----------
``labels`` are 0, 1 or unknown, shape (clips, instruments). ``decisions`` have the same shape and
are 0 or 1; ``scores`` have the same shape, are from 0 to 1, and higher where the model is surer.
Metrics are from 0 to 1 and higher is better, except for the errors: Hamming loss, coverage error
(in instruments) and expected calibration error.

All metrics are computed on every draw of songs at once (see `bootstrap`): the first draw takes
each song once and gives the figures themselves, the others give their intervals. Without draws
every clip is taken once.

*Micro* averages count true positives, predicted and positives over all instruments together, so
that frequent instruments weigh more; *macro* averages are the plain mean of the instruments' own
values (macro F1 is the mean of the F1s, not the F1 of mean precision and mean recall), *weighted*
averages their mean weighted by positives. Micro and macro are used as in Han, Kim and Lee,
arXiv:1605.09507.

A ratio with a denominator of zero is 0: the precision of an instrument that is never predicted;
the recall, F1 and average precision of one that never occurs. Such instruments count in macro
averages. These are the conventions of scikit-learn with ``zero_division=0``, and all values are
those of scikit-learn.

Only known labels count: an instrument's figures are of the clips where it is known, a clip's of the
instruments that are known in it. Clips of which nothing is known are left out, and so are, from
macro averages, instruments that are known in no clip. Values are those of scikit-learn on what is
known.

`ranking` and `calibration` hold the metrics of scores, each with its source. Label accuracy is
1 less the Hamming loss. It is high for any model that predicts little; do not compare models by
it.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.arrays import (
    Decisions,
    Float64,
    Labels,
    ScoreArray,
    validate,
)
from irmas_dist.evaluation.bootstrap import Draws
from irmas_dist.evaluation.calibration import calibration_error
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.ranking import average_precision, clip_coverage, clip_lrap, roc_auc
from irmas_dist.instruments import UNKNOWN, Vocabulary

ClipCounts = npt.NDArray[np.integer[Any]] | Float64 | np.integer[Any] | int
"""Numbers of clips."""


class PrecisionRecallF1(NamedTuple):
    """Precision, recall and F1, each of the shape of the counts."""

    precision: Float64
    recall: Float64
    f1: Float64


def precision_recall_f1(
    true_positives: ClipCounts, predicted: ClipCounts, positives: ClipCounts
) -> PrecisionRecallF1:
    """Return precision, recall and F1 from counts; 0 where a denominator is zero.

    Args:
        true_positives: Clips that have the instrument and for which it is predicted.
        predicted: Clips for which it is predicted.
        positives: Clips that have it.
    """
    return PrecisionRecallF1(
        np.divide(true_positives, np.maximum(predicted, 1)),
        np.divide(true_positives, np.maximum(positives, 1)),
        f_measure(true_positives, predicted, positives),
    )


def f_measure(
    true_positives: ClipCounts, predicted: ClipCounts, positives: ClipCounts, beta: float = 1.0
) -> Float64:
    """Return the F-measure (van Rijsbergen, "Information Retrieval", 1979) from counts.

    F = (1 + beta²) true positives / (predicted + beta² positives), 0 where undefined. Recall
    counts ``beta`` times as much as precision.
    """
    weight = beta**2
    bound = np.maximum(predicted + weight * positives, 1)
    return np.divide((1 + weight) * true_positives, bound)


class Figures(NamedTuple):
    """Metrics on every draw.

    Attributes:
        overall: Name to values, shape (draws,).
        instruments: Name to values of each instrument, shape (draws, instruments).
    """

    overall: dict[str, Float64]
    instruments: dict[str, Float64]


def decision_figures(labels: Labels, decisions: Decisions, draws: Draws | None = None) -> Figures:
    """Return the metrics that need no scores; without draws, of every clip once.

    Returns:
        Overall ``<average>_f1``, ``<average>_precision`` and ``<average>_recall`` of micro, macro
        and weighted averages, subset_accuracy (the share of clips whose set of instruments is
        exactly right), label_accuracy and hamming_loss (the share of wrong decisions); of each
        instrument clips (positives), known (clips where it is known), precision, recall and f1.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, decisions)
    draws = draws or Draws.once(len(labels))
    known, plays = labels != UNKNOWN, labels == 1
    times = draws.sums(known)
    predicted = known & (decisions == 1)
    counts = [draws.sums(values) for values in (plays & predicted, predicted, plays)]
    positives = counts[2]
    share = positives / np.maximum(positives.sum(axis=1, keepdims=True), 1)
    each = precision_recall_f1(*counts)
    averages = {
        "micro": precision_recall_f1(*(count.sum(axis=1) for count in counts)),
        "macro": PrecisionRecallF1(*(macro_mean(values, times) for values in each)),
        "weighted": PrecisionRecallF1(*((values * share).sum(axis=1) for values in each)),
    }
    wrong = known & (plays != predicted)
    loss = draws.means(wrong.sum(axis=1) / np.maximum(known.sum(axis=1), 1), known.any(axis=1))
    overall = {
        f"{average}_{name}": getattr(values, name)
        for average, values in averages.items()
        for name in ("f1", "precision", "recall")
    }
    overall |= {
        "subset_accuracy": draws.means(~wrong.any(axis=1), known.any(axis=1)),
        "label_accuracy": 1 - loss,
        "hamming_loss": loss,
    }
    of_instruments = {"clips": positives, "known": times, **each._asdict()}
    return Figures(overall, of_instruments)


def score_figures(labels: Labels, scores: ScoreArray, draws: Draws | None = None) -> Figures:
    """Return the metrics that need no decisions; without draws, of every clip once.

    Returns:
        Overall lrap, coverage_error, and the means over instruments map, roc_auc and ece; of each
        instrument ap (average precision), roc_auc and ece (expected calibration error).

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, scores)
    draws = draws or Draws.once(len(labels))
    instruments = {
        "ap": average_precision(labels, scores, draws),
        "roc_auc": roc_auc(labels, scores, draws),
        "ece": calibration_error(labels, scores, draws),
    }
    known = labels != UNKNOWN
    times = draws.sums(known)
    overall = {
        "lrap": draws.means(clip_lrap(labels, scores), known.any(axis=1)),
        "coverage_error": draws.means(clip_coverage(labels, scores), known.any(axis=1)),
        "map": macro_mean(instruments["ap"], times),
        "roc_auc": macro_mean(instruments["roc_auc"], times),
        "ece": macro_mean(instruments["ece"], times),
    }
    return Figures(overall, instruments)


def ranking_metrics(labels: Labels, scores: ScoreArray) -> dict[str, float]:
    """Return lrap and map of `score_figures`, which takes several times as long for the others.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, scores)
    draws, known = Draws.once(len(labels)), labels != UNKNOWN
    lrap = draws.means(clip_lrap(labels, scores), known.any(axis=1))
    precision = average_precision(labels, scores, draws)
    return first_draw({"lrap": lrap, "map": macro_mean(precision, draws.sums(known))})


def overall_metrics(
    labels: Labels, scores: ScoreArray, thresholds: npt.ArrayLike
) -> dict[str, float]:
    """Return every overall metric of `decision_figures` and `score_figures` by name.

    Thresholds are of shape (instruments,), or one number for all.

    Raises:
        ValueError: See `arrays.validate`.
    """
    of_scores = score_figures(labels, scores).overall
    return decision_metrics(labels, decide(scores, thresholds)) | first_draw(of_scores)


def decision_metrics(labels: Labels, decisions: Decisions) -> dict[str, float]:
    """Return the overall metrics of `decision_figures` by name.

    Raises:
        ValueError: See `arrays.validate`.
    """
    return first_draw(decision_figures(labels, decisions).overall)


def first_draw(overall: dict[str, Float64]) -> dict[str, float]:
    """Return the figures themselves, which are those of the draw that takes each song once."""
    return {name: float(values[0]) for name, values in overall.items()}


def per_instrument(
    labels: Labels, scores: ScoreArray, decisions: Decisions, vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """Return `rows_by_instrument` of scores and decisions.

    Raises:
        ValueError: See `arrays.validate`.
    """
    of_decisions = decision_figures(labels, decisions).instruments
    return rows_by_instrument(of_decisions | score_figures(labels, scores).instruments, vocabulary)


def rows_by_instrument(
    instruments: dict[str, Float64], vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """Return rows of code, name, clips, known, precision, recall, f1, ap, roc_auc and ece.

    Known are the clips in which it is known whether the instrument plays, clips those in which it
    does. If none is known, the other figures are None.

    Args:
        instruments: `Figures.instruments` of decisions and scores together.
        vocabulary: The instruments, in the order of the columns.
    """
    return [
        {"code": code, "name": name}
        | {
            key: float(values[0, i]) if instruments["known"][0, i] else None
            for key, values in instruments.items()
        }
        | {key: int(instruments[key][0, i]) for key in ("clips", "known")}
        for i, (code, name) in enumerate(zip(vocabulary.codes, vocabulary.names, strict=True))
    ]


def macro_mean(values: Float64, known: Float64) -> Float64:
    """Return means over the instruments that are known in a draw, 0 over none, shape (draws,).

    Args:
        values: Of each instrument, shape (draws, instruments).
        known: Number of clips in which it is known, of the same shape.
    """
    counted = known > 0
    means: Float64 = np.where(counted, values, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return means

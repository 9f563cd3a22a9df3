"""Metrics of multilabel instrument recognition.

Conventions
-----------
``labels`` are 0 or 1, shape (clips, instruments). ``decisions`` have the same shape and are
0 or 1; ``scores`` have the same shape, are from 0 to 1, and higher where the model is surer.
Metrics are from 0 to 1 and higher is better, but for those in `LOWER_IS_BETTER`. With tp, fp
and fn the true positives, false positives and false negatives, F1 = 2 tp / (2 tp + fp + fn).

*Micro* averages count tp, fp and fn over all instruments together, so that frequent
instruments weigh more; *macro* averages are the plain mean of the instruments' own values
(macro F1 is the mean of the F1s, not the F1 of mean precision and mean recall), *weighted*
ones their mean by how many clips have the instrument. Micro and macro are used as in Han, Kim
and Lee, arXiv:1605.09507.

Whatever would divide by zero is 0: the precision of an instrument that is never said; the
recall, F1 and average precision of one that never occurs. Such instruments count in macro
averages. These are the conventions of scikit-learn with ``zero_division=0``, and all figures
are those of scikit-learn.

Here are the metrics of decisions; `ranking` has those of scores (LRAP, coverage error, average
precision, ROC AUC) and `calibration` the expected calibration error, each with its source.
Label accuracy is 1 less the Hamming loss. It is high for any model that says little; do not
compare models by it.
"""

from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.arrays import Decisions, Labels, ScoreArray, validate
from irmas_dist.evaluation.calibration import calibration_error
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.ranking import average_precision, coverage_error, lrap, roc_auc
from irmas_dist.instruments import Vocabulary

Average = Literal["micro", "macro", "weighted"]
"""How the values of several instruments become one."""

LOWER_IS_BETTER = frozenset({"hamming_loss", "coverage_error", "ece"})
"""Metrics of `evaluate` that are errors."""


@overload
def precision_recall_f1(
    labels: Labels, decisions: Decisions, average: Average
) -> tuple[float, float, float]: ...


@overload
def precision_recall_f1(
    labels: Labels, decisions: Decisions, average: None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]: ...


def precision_recall_f1(
    labels: Labels, decisions: Decisions, average: Average | None
) -> tuple[Any, Any, Any]:
    """Return precision, recall and F1.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        decisions: 0 or 1, shape (clips, instruments).
        average: ``micro``, ``macro`` or ``weighted`` for three numbers; None for three arrays
            of shape (instruments,).

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, decisions)
    hits = np.count_nonzero(labels & decisions, axis=0)
    said = np.count_nonzero(decisions, axis=0)
    present = np.count_nonzero(labels, axis=0)
    if average == "micro":
        hits, said, present = hits.sum(), said.sum(), present.sum()
    precision = hits / np.maximum(said, 1)
    recall = hits / np.maximum(present, 1)
    f1 = 2 * hits / np.maximum(said + present, 1)
    if average is None:
        return precision, recall, f1
    if average == "weighted" and present.any():
        precision, recall, f1 = (
            value @ present / present.sum() for value in (precision, recall, f1)
        )
    return float(precision.mean()), float(recall.mean()), float(f1.mean())


def subset_accuracy(labels: Labels, decisions: Decisions) -> float:
    """Return the share of clips whose set of instruments is exactly right.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, decisions)
    return float((labels == decisions).all(axis=1).mean())


def hamming_loss(labels: Labels, decisions: Decisions) -> float:
    """Return the share of wrong yes/no decisions.

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, decisions)
    return float((labels != decisions).mean())


def evaluate(labels: Labels, scores: ScoreArray, thresholds: npt.ArrayLike) -> dict[str, float]:
    """Return every metric by name.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        scores: Shape (clips, instruments), from 0 to 1.
        thresholds: Shape (instruments,), or one number for all.

    Returns:
        ``<average>_f1``, ``<average>_precision`` and ``<average>_recall`` of micro, macro and
        weighted averages; subset_accuracy, label_accuracy, hamming_loss; lrap, coverage_error
        (in instruments); and the means over instruments map (average precision), roc_auc and
        ece (expected calibration error).

    Raises:
        ValueError: See `arrays.validate`.
    """
    validate(labels, scores)
    return judge_decisions(labels, decide(scores, thresholds)) | judge_scores(labels, scores)


def judge_decisions(labels: Labels, decisions: Decisions) -> dict[str, float]:
    """Return the metrics of `evaluate` that need no scores, by name.

    Raises:
        ValueError: See `arrays.validate`.
    """
    result: dict[str, float] = {}
    averages: tuple[Average, ...] = ("micro", "macro", "weighted")
    for average in averages:
        precision, recall, f1 = precision_recall_f1(labels, decisions, average)
        result |= {
            f"{average}_f1": f1,
            f"{average}_precision": precision,
            f"{average}_recall": recall,
        }
    loss = hamming_loss(labels, decisions)
    return result | {
        "subset_accuracy": subset_accuracy(labels, decisions),
        "label_accuracy": 1 - loss,
        "hamming_loss": loss,
    }


def judge_scores(labels: Labels, scores: ScoreArray) -> dict[str, float]:
    """Return the metrics of `evaluate` that need no decisions, by name.

    Raises:
        ValueError: See `arrays.validate`.
    """
    return {
        "lrap": lrap(labels, scores),
        "coverage_error": coverage_error(labels, scores),
        "map": float(average_precision(labels, scores).mean()),
        "roc_auc": float(roc_auc(labels, scores).mean()),
        "ece": float(calibration_error(labels, scores).mean()),
    }


def per_instrument(
    labels: Labels, scores: ScoreArray, decisions: Decisions, vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """Return one row per instrument, in the order of the vocabulary.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        scores: Shape (clips, instruments), from 0 to 1.
        decisions: 0 or 1, shape (clips, instruments).
        vocabulary: The instruments, in the order of the columns.

    Returns:
        Rows of code, name, clips (how many have the instrument), precision, recall, f1, ap
        (average precision), roc_auc and ece (expected calibration error).

    Raises:
        ValueError: See `arrays.validate`.
    """
    precision, recall, f1 = precision_recall_f1(labels, decisions, None)
    columns = {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "ap": average_precision(labels, scores),
        "roc_auc": roc_auc(labels, scores),
        "ece": calibration_error(labels, scores),
    }
    clips = labels.sum(axis=0, dtype=np.int64)
    return [
        {
            "code": code,
            "name": name,
            "clips": int(clips[i]),
            **{key: float(values[i]) for key, values in columns.items()},
        }
        for i, (code, name) in enumerate(zip(vocabulary.codes, vocabulary.names, strict=True))
    ]

"""Metrics of multilabel instrument recognition.

Conventions
-----------
``labels`` are 0 or 1, shape (clips, instruments). ``decisions`` have the same shape and are
0 or 1; ``scores`` have the same shape and are higher where the model is surer. Every metric
is from 0 to 1, higher is better. With tp, fp and fn the true positives, false positives and
false negatives, F1 = 2 tp / (2 tp + fp + fn).

*Micro* averages count tp, fp and fn over all instruments together, so that frequent
instruments weigh more; *macro* averages are the plain mean of the instruments' own values
(macro F1 is the mean of the F1s, not the F1 of mean precision and mean recall). Both are
used as in Han, Kim and Lee, arXiv:1605.09507.

Whatever would divide by zero is 0: the precision of an instrument that is never said; the
recall, F1 and average precision of one that never occurs. Such instruments count in macro
averages. These are the conventions of scikit-learn with ``zero_division=0``.

Sources
-------
LRAP, label ranking average precision: Tsoumakas, Katakis and Vlahavas, "Mining multi-label
data" (2010), there called average precision. Average precision: area under the
precision-recall curve as a sum of steps, without interpolation (Manning, Raghavan and
Schütze, "Introduction to Information Retrieval", section 8.4). Label accuracy is 1 less the
Hamming loss. It is high for any model that says little; do not compare models by it.
"""

from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.thresholds import decide, operating_points
from irmas_dist.instruments import Vocabulary

Labels = npt.NDArray[np.integer[Any]]
Decisions = npt.NDArray[np.integer[Any]]
ScoreArray = npt.NDArray[np.floating[Any]]


def validate(labels: Labels, scores_or_decisions: npt.NDArray[Any]) -> None:
    """Check that labels and scores (or decisions) belong together.

    Raises:
        ValueError: They are not both of shape (clips, instruments) with at least one clip,
            a label is neither 0 nor 1, or a score is not a finite number.
    """
    if labels.ndim != 2 or labels.shape != scores_or_decisions.shape or labels.size == 0:
        raise ValueError(
            "labels and scores must have one shape (clips, instruments) and not be empty, "
            f"got {labels.shape} and {scores_or_decisions.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    if not np.isfinite(scores_or_decisions).all():
        raise ValueError("scores must be finite numbers")


@overload
def precision_recall_f1(
    labels: Labels, decisions: Decisions, average: Literal["micro", "macro"]
) -> tuple[float, float, float]: ...


@overload
def precision_recall_f1(
    labels: Labels, decisions: Decisions, average: None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]: ...


def precision_recall_f1(
    labels: Labels, decisions: Decisions, average: Literal["micro", "macro"] | None
) -> tuple[Any, Any, Any]:
    """Return precision, recall and F1.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        decisions: 0 or 1, shape (clips, instruments).
        average: ``micro`` or ``macro`` for three numbers; None for three arrays of shape
            (instruments,).

    Raises:
        ValueError: See `validate`.
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
    return float(precision.mean()), float(recall.mean()), float(f1.mean())


def subset_accuracy(labels: Labels, decisions: Decisions) -> float:
    """Return the share of clips whose set of instruments is exactly right.

    Raises:
        ValueError: See `validate`.
    """
    validate(labels, decisions)
    return float((labels == decisions).all(axis=1).mean())


def label_accuracy(labels: Labels, decisions: Decisions) -> float:
    """Return the share of right yes/no decisions: 1 less the Hamming loss.

    Raises:
        ValueError: See `validate`.
    """
    validate(labels, decisions)
    return float((labels == decisions).mean())


def lrap(labels: Labels, scores: ScoreArray) -> float:
    """Return the label ranking average precision; it needs no thresholds.

    For each instrument of a clip: of those that score at least as high, the share that is
    right; averaged over the clip's instruments, then over clips. Clips that have no
    instrument, or all of them, cannot be ranked wrongly and count as 1.

    Raises:
        ValueError: See `validate`.
    """
    validate(labels, scores)
    rank = np.zeros(labels.shape, dtype=np.int64)
    right = np.zeros(labels.shape, dtype=np.int64)
    for other in range(labels.shape[1]):
        above = scores[:, other, None] >= scores
        rank += above
        right += above & (labels[:, other, None] == 1)
    per_clip = labels.sum(axis=1, dtype=np.int64)
    precision = (labels * right / rank).sum(axis=1) / np.maximum(per_clip, 1)
    trivial = (per_clip == 0) | (per_clip == labels.shape[1])
    return float(np.where(trivial, 1.0, precision).mean())


def average_precision(labels: Labels, scores: ScoreArray) -> npt.NDArray[np.float64]:
    """Return the average precision of each instrument, shape (instruments,).

    The mean of it is mAP. Like `decide`, this compares scores as float32.

    Raises:
        ValueError: See `validate`.
    """
    validate(labels, scores)
    result = np.zeros(labels.shape[1])
    for instrument in range(labels.shape[1]):
        points = operating_points(labels[:, instrument], scores[:, instrument])
        precision = points.hits[1:] / points.said[1:]
        result[instrument] = np.diff(points.hits) @ precision / max(points.hits[-1], 1)
    return result


def evaluate(labels: Labels, scores: ScoreArray, thresholds: npt.ArrayLike) -> dict[str, float]:
    """Return every metric by name.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        scores: Shape (clips, instruments), from 0 to 1.
        thresholds: Shape (instruments,), or one number for all.

    Returns:
        micro_f1, micro_precision, micro_recall, macro_f1, macro_precision, macro_recall,
        subset_accuracy, label_accuracy, lrap and map (mean average precision).

    Raises:
        ValueError: See `validate`.
    """
    validate(labels, scores)
    decisions = decide(scores, thresholds)
    micro_precision, micro_recall, micro_f1 = precision_recall_f1(labels, decisions, "micro")
    macro_precision, macro_recall, macro_f1 = precision_recall_f1(labels, decisions, "macro")
    return {
        "micro_f1": micro_f1,
        "micro_precision": micro_precision,
        "micro_recall": micro_recall,
        "macro_f1": macro_f1,
        "macro_precision": macro_precision,
        "macro_recall": macro_recall,
        "subset_accuracy": subset_accuracy(labels, decisions),
        "label_accuracy": label_accuracy(labels, decisions),
        "lrap": lrap(labels, scores),
        "map": float(average_precision(labels, scores).mean()),
    }


def per_instrument(
    labels: Labels, scores: ScoreArray, thresholds: npt.ArrayLike, vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """Return one row per instrument, in the order of the vocabulary.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        scores: Shape (clips, instruments), from 0 to 1.
        thresholds: Shape (instruments,), or one number for all.
        vocabulary: The instruments, in the order of the columns.

    Returns:
        Rows of code, name, precision, recall, f1, ap (average precision), threshold and
        clips (how many have the instrument).

    Raises:
        ValueError: See `validate`.
    """
    validate(labels, scores)
    precision, recall, f1 = precision_recall_f1(labels, decide(scores, thresholds), None)
    ap = average_precision(labels, scores)
    clips = labels.sum(axis=0, dtype=np.int64)
    each_threshold = np.broadcast_to(np.asarray(thresholds, np.float32), (len(vocabulary),))
    return [
        {
            "code": code,
            "name": name,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "ap": float(ap[i]),
            "threshold": float(each_threshold[i]),
            "clips": int(clips[i]),
        }
        for i, (code, name) in enumerate(zip(vocabulary.codes, vocabulary.names, strict=True))
    ]

"""Metrics of an epoch: of the training examples as they pass, and of the validation clips."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.arrays import Labels
from irmas_dist.evaluation.metrics import decision_metrics, precision_recall_f1, ranking_metrics
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import PRESENT, UNKNOWN, Vocabulary

HALFWAY = 0.5
"""The threshold of all metrics except those stated to be at fitted thresholds."""

COUNTS = 5
"""Number of counts that `count_decisions` returns."""


def count_decisions(logits: Tensor, labels: Tensor) -> Tensor:
    """Count what `training_metrics` needs, on the device and without waiting for it.

    Args:
        logits: Shape (examples, instruments).
        labels: From 0 to 1, NaN where unknown, of the same shape.

    Returns:
        Of the known labels: decisions, correct ones, true positives, predicted and positives,
        float64, shape (5,).
    """
    known, positive = ~labels.isnan(), labels >= PRESENT
    predicted = (logits > 0) & known
    right = (predicted == positive) & known
    counted = (known, right, predicted & positive, predicted, positive)
    return torch.stack(counted).sum(dim=(1, 2), dtype=torch.float64)


def training_metrics(counts: Tensor) -> dict[str, float]:
    """Return metrics from the sum of `count_decisions`, 0 where a denominator is zero."""
    decisions, correct, *of_instruments = counts.tolist()
    micro = precision_recall_f1(*of_instruments)
    return {
        "train_label_accuracy": correct / max(decisions, 1),
        "train_micro_precision": float(micro.precision),
        "train_micro_recall": float(micro.recall),
    }


def validation_metrics(
    labels: Labels,
    scores: npt.NDArray[np.float32],
    thresholds: ThresholdSettings,
    vocabulary: Vocabulary,
    stores: Sequence[int] = (),
) -> dict[str, float]:
    """Return the metrics of validation clips, see `irmas_dist.evaluation.metrics`.

    Args:
        labels: Shape (clips, instruments).
        scores: From 0 to 1, of the same shape.
        thresholds: How thresholds are fitted to these clips.
        vocabulary: The instruments, in the order of the columns.
        stores: Number of clips of each store, where they come from several.

    Returns:
        At fitted thresholds, ``val_micro_f1`` and ``val_macro_f1``. At a threshold of 0.5,
        ``val_micro_precision``, ``val_micro_recall``, ``val_macro_precision``,
        ``val_macro_recall``, ``val_subset_accuracy``, ``val_label_accuracy``, and
        ``val_label_accuracy_<code>`` of each instrument that is known in a clip. Without
        thresholds, ``val_lrap`` and ``val_map``. With several stores, every value is the mean over
        the stores that have it, at the same thresholds, and ``val_macro_f1_store_<number>`` is
        that of each.
    """
    fitted = fit_thresholds(labels, scores, thresholds)
    each = [
        _metrics(labels[clips], scores[clips], fitted, vocabulary)
        for clips in _each_store(len(labels), stores)
    ]
    return _means(each) | _of_stores(each)


def f1_at(
    labels: Labels,
    scores: npt.NDArray[np.float32],
    thresholds: npt.NDArray[np.float32],
    stores: Sequence[int] = (),
) -> dict[str, float]:
    """Return ``val_micro_f1`` and ``val_macro_f1`` at a model's own thresholds.

    Of several stores they are means over the stores, and ``val_macro_f1_store_<number>`` is that of
    each, as those of `validation_metrics`.
    """
    each = []
    for clips in _each_store(len(labels), stores):
        found = decision_metrics(labels[clips], decide(scores[clips], thresholds))
        each.append({f"val_{name}": found[name] for name in ("micro_f1", "macro_f1")})
    return _means(each) | _of_stores(each)


def _each_store(clips: int, stores: Sequence[int]) -> list[slice]:
    """Return where the clips of each store lie, of which there may be one that is not stated."""
    return list(itertools.starmap(slice, itertools.pairwise([0, *np.cumsum(stores or [clips])])))


def _of_stores(each: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return macro F1 of each store, where there are several."""
    if len(each) == 1:
        return {}
    return {f"val_macro_f1_store_{n}": one["val_macro_f1"] for n, one in enumerate(each, start=1)}


def _means(each: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in each for name in one)
    return {name: float(np.mean([one[name] for one in each if name in one])) for name in names}


def _metrics(
    labels: Labels,
    scores: npt.NDArray[np.float32],
    thresholds: npt.NDArray[np.float32],
    vocabulary: Vocabulary,
) -> dict[str, float]:
    fitted = decision_metrics(labels, decide(scores, thresholds))
    decisions = decide(scores, HALFWAY)
    halfway = decision_metrics(labels, decisions)
    names = ("micro_precision", "micro_recall", "macro_precision", "macro_recall",
             "subset_accuracy", "label_accuracy")  # fmt: skip
    known = np.count_nonzero(labels != UNKNOWN, axis=0)
    right = np.count_nonzero(decisions == labels, axis=0)
    correct = {
        f"val_label_accuracy_{code}": float(right[column] / known[column])
        for column, code in enumerate(vocabulary.codes)
        if known[column]
    }
    return {
        **{f"val_{name}": fitted[name] for name in ("micro_f1", "macro_f1")},
        **{f"val_{name}": halfway[name] for name in names},
        **{f"val_{name}": value for name, value in ranking_metrics(labels, scores).items()},
        **correct,
    }

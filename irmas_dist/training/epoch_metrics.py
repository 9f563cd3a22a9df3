"""Metrics of an epoch, by torchmetrics: of training examples as they pass, of validation clips.

torchmetrics takes two seconds to import, which commands that train nothing should not wait for.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.ranking import clip_lrap
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import Vocabulary

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

HALFWAY = 0.5
"""The threshold of all metrics but those that say they are of fitted ones."""


def training_metrics(instruments: int, device: torch.device) -> "MetricCollection":
    """Return running metrics of training examples, which `compute` adds up over all workers.

    To be updated with decisions and labels, both 0 or 1, shape (examples, instruments).

    Returns:
        ``train_label_accuracy``, ``train_micro_precision`` and ``train_micro_recall``.
    """
    from torchmetrics import Metric, MetricCollection
    from torchmetrics.classification import (
        MultilabelAccuracy,
        MultilabelPrecision,
        MultilabelRecall,
    )

    kinds = {
        "label_accuracy": MultilabelAccuracy,
        "micro_precision": MultilabelPrecision,
        "micro_recall": MultilabelRecall,
    }
    metrics: dict[str, Metric | MetricCollection] = {
        name: kind(instruments, HALFWAY, average="micro", validate_args=False)
        for name, kind in kinds.items()
    }
    # All of them count the same, and the groups are the same on a worker without examples.
    collection = MetricCollection(metrics, prefix="train_", compute_groups=[list(metrics)])
    return collection.to(device)


def validation_metrics(
    labels: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float32],
    thresholds: ThresholdSettings,
    vocabulary: Vocabulary,
) -> dict[str, float]:
    """Return every metric of validation clips.

    The conventions are those of `irmas_dist.evaluation.metrics`, and so are the values.

    Args:
        labels: 0 or 1, shape (clips, instruments).
        scores: From 0 to 1, of the same shape.
        thresholds: How thresholds are fitted to these clips.
        vocabulary: The instruments, in the order of the columns.

    Returns:
        With fitted thresholds, ``val_micro_f1`` and ``val_macro_f1``. At a threshold of 0.5,
        ``val_micro_precision``, ``val_micro_recall``, ``val_macro_precision``,
        ``val_macro_recall``, ``val_subset_accuracy``, ``val_label_accuracy``, and
        ``val_label_accuracy_<code>`` of each instrument. Without thresholds, ``val_lrap`` and
        ``val_map``.
    """
    from torchmetrics.functional import classification as of

    count = len(vocabulary)
    there = torch.from_numpy(labels.astype(np.int64))
    said = torch.from_numpy(decide(scores, HALFWAY).astype(np.int64))
    fitted = torch.from_numpy(
        decide(scores, fit_thresholds(labels, scores, thresholds)).astype(np.int64)
    )
    ranked = torch.from_numpy(scores)
    right = of.multilabel_accuracy(said, there, count, average=None)
    values: dict[str, Tensor] = {
        "micro_f1": of.multilabel_f1_score(fitted, there, count, average="micro"),
        "macro_f1": of.multilabel_f1_score(fitted, there, count, average="macro"),
        "micro_precision": of.multilabel_precision(said, there, count, average="micro"),
        "micro_recall": of.multilabel_recall(said, there, count, average="micro"),
        "macro_precision": of.multilabel_precision(said, there, count, average="macro"),
        "macro_recall": of.multilabel_recall(said, there, count, average="macro"),
        "subset_accuracy": of.multilabel_exact_match(said, there, count),
        "label_accuracy": right.mean(),
        # Not torchmetrics', which loops over clips: a second per 500 of them, in every epoch.
        "lrap": torch.tensor(clip_lrap(labels, scores).mean()),
        # NaN stands for an instrument that never occurs.
        "map": of.multilabel_average_precision(ranked, there, count, average=None)
        .nan_to_num(0.0)
        .mean(),
    }
    values |= {f"label_accuracy_{code}": right[i] for i, code in enumerate(vocabulary.codes)}
    return {f"val_{name}": float(value) for name, value in values.items()}

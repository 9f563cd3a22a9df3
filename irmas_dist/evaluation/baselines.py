"""Baselines that hear nothing: what a model must beat before it is worth anything."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.evaluation.metrics import precision_recall_f1
from irmas_dist.evaluation.protocols import Protocol

KNOWING = frozenset(
    {"most frequent one", "most frequent few", "most frequent instruments", "one right per clip"}
)
"""Baselines that are chosen on the very labels that they are judged by."""


def protocol_of(name: str) -> Protocol:
    """Return the protocol of a baseline's figures."""
    return "oracle" if name in KNOWING else "validation"


def most_frequent(
    development_labels: npt.NDArray[np.integer[Any]], clips: int
) -> npt.NDArray[np.uint8]:
    """Say the same instruments of every clip: the k most frequent ones.

    k is the one with the highest micro F1 on the development clips. For a fixed answer that
    is the best there is, since of all sets of k instruments the most frequent ones have the
    most hits. Of equally frequent instruments the earlier ones are taken.

    Args:
        development_labels: 0 or 1, shape (development clips, instruments).
        clips: How many clips to answer for.

    Returns:
        Decisions, uint8, shape (clips, instruments); as scores they go with a threshold of 0.5.
    """
    per_instrument = development_labels.sum(axis=0, dtype=np.int64)
    order = np.argsort(-per_instrument, kind="stable")
    said = np.arange(1, len(order) + 1) * len(development_labels)
    micro_f1 = 2 * np.cumsum(per_instrument[order]) / (said + per_instrument.sum())
    answer = np.zeros(len(order), dtype=np.uint8)
    answer[order[: micro_f1.argmax() + 1]] = 1
    return np.tile(answer, (clips, 1))


def trivial(labels: npt.NDArray[np.integer[Any]]) -> dict[str, dict[str, float]]:
    """Return micro and macro F1 of answers that no music is needed for, on these labels.

    All but the first know the labels that they are judged by: they are more than can be
    reached by guessing. A perfect guess of one instrument per clip names of each clip the
    instrument that is the most frequent of those that it has.

    Args:
        labels: 0 or 1, shape (clips, instruments).

    Returns:
        Name to ``micro_f1`` and ``macro_f1``.
    """
    present = labels.sum(axis=0, dtype=np.int64)
    one_right = np.zeros_like(labels)
    one_right[np.arange(len(labels)), (labels * (present + 1)).argmax(axis=1)] = 1
    always_one = np.zeros_like(labels)
    always_one[:, present.argmax()] = 1
    answers = {
        "every instrument": np.ones_like(labels),
        "most frequent one": always_one,
        "most frequent few": most_frequent(labels, len(labels)),
        "one right per clip": one_right & labels,
    }
    return {
        name: {
            f"{average}_f1": precision_recall_f1(labels, decisions, average)[2]
            for average in ("micro", "macro")
        }
        for name, decisions in answers.items()
    }


@dataclass(frozen=True)
class Published:
    """A published result.

    Attributes:
        work: Authors and year.
        how: The model, in few words.
        micro_f1: None where not reported, as the others.
        macro_f1: Of the instruments' F1s.
        lrap: Label ranking average precision.
        protocol: How thresholds were chosen; None where the work does not tell, or not enough.
    """

    work: str
    how: str
    micro_f1: float | None
    macro_f1: float | None
    lrap: float | None = None
    protocol: Protocol | None = None


PUBLISHED = (
    Published("Bosch et al. 2012", "Fuhrmann's SVM, source separation", 0.503, 0.432),
    # arXiv:1605.09507, version 1; then IEEE/ACM TASLP 25.
    Published("Han et al. 2016", "CNN on log-mel", 0.602, 0.503),
    Published("Han et al. 2017", "the same, other aggregation", 0.619, 0.513),
    Published("Pons et al. 2017", "CNN, timbre-shaped filters", 0.589, 0.516),
    Published("Kratimenos et al. 2020", "VGG ensemble, mixing", 0.647, 0.546),
    Published("Reghunath, Rajan 2022", "Swin ensemble", 0.66, 0.62),
    # The weights that they released reach 0.682.
    Published("Zhong et al. 2023", "IRNet, pre-trained on NSynth", 0.674, None, 0.814, "oracle"),
    Published("Lekshmi, Rajan 2025", "", 0.66, 0.58),
)
"""In order of time."""

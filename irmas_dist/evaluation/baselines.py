"""Baselines that use no audio, which a model must beat."""

import numpy as np
import numpy.typing as npt

from irmas_dist.config.decisions import Protocol
from irmas_dist.evaluation.arrays import Labels
from irmas_dist.evaluation.metrics import decision_metrics, f_measure
from irmas_dist.instruments import UNKNOWN

KNOWING = frozenset({"most frequent one", "most frequent instruments", "one right per clip"})
"""Baselines that are chosen on the labels that they are evaluated on."""


def protocol_of(name: str) -> Protocol:
    """Return the protocol of a baseline's figures."""
    return "oracle" if name in KNOWING else "validation"


def most_frequent(development_labels: Labels, clips: int) -> npt.NDArray[np.uint8]:
    """Predict the same instruments for every clip: the k most frequent ones.

    k is the one with the highest micro F1 on the development clips. No other fixed answer is
    better, since of all sets of k instruments the most frequent ones have the most true
    positives. Of equally frequent instruments the earlier ones are taken.

    Args:
        development_labels: Labels of the development clips.
        clips: Number of clips to predict.

    Returns:
        Decisions, uint8; as scores they go with a threshold of 0.5.
    """
    positives = (development_labels == 1).sum(axis=0)
    order = np.argsort(-positives, kind="stable")
    predicted = np.cumsum((development_labels != UNKNOWN).sum(axis=0)[order])
    micro_f1 = f_measure(np.cumsum(positives[order]), predicted, positives.sum())
    answer = np.zeros(len(order), dtype=np.uint8)
    answer[order[: micro_f1.argmax() + 1]] = 1
    return np.tile(answer, (clips, 1))


def trivial(labels: Labels) -> dict[str, dict[str, float]]:
    """Return micro and macro F1 of answers that use no audio, on these labels.

    All but the first know the labels that they are evaluated on: they are upper bounds of
    guessing. "One right per clip" predicts for each clip the most frequent of its instruments.
    """
    plays = labels == 1
    positives = plays.sum(axis=0)
    one_right = np.zeros_like(labels)
    one_right[np.arange(len(labels)), (plays * (positives + 1)).argmax(axis=1)] = 1
    always_one = np.zeros_like(labels)
    always_one[:, positives.argmax()] = 1
    answers = {
        "every instrument": np.ones_like(labels),
        "most frequent one": always_one,
        "most frequent instruments": most_frequent(labels, len(labels)),
        "one right per clip": one_right & plays,
    }
    figures = {name: decision_metrics(labels, decided) for name, decided in answers.items()}
    return {
        name: {key: values[key] for key in ("micro_f1", "macro_f1")}
        for name, values in figures.items()
    }

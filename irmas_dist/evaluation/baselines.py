"""Baselines that use no audio, which a model must beat."""

import numpy as np
import numpy.typing as npt

from irmas_dist.config.decisions import Protocol
from irmas_dist.evaluation.arrays import Labels
from irmas_dist.evaluation.metrics import decision_metrics, f_measure
from irmas_dist.instruments import UNKNOWN

USES_TEST_LABELS = frozenset(
    {"most frequent one", "most frequent instruments", "one right per clip"}
)
"""Baselines that are chosen on the labels that they are evaluated on."""


def protocol_of(name: str) -> Protocol:
    """Return the protocol of a baseline's figures."""
    return "oracle" if name in USES_TEST_LABELS else "validation"


def most_frequent(development_labels: Labels, clips: int) -> npt.NDArray[np.uint8]:
    """Predict the same instruments for every clip: the most frequent ones.

    Of all fixed answers it is one with the highest micro F1 on the development clips, which is a
    ratio of sums over the predicted instruments, and found as such (Dinkelbach, "On nonlinear
    fractional programming", Management Science 13, 1967).

    Args:
        development_labels: Labels of the development clips.
        clips: Number of clips to predict.

    Returns:
        Decisions, uint8; as scores they go with a threshold of 0.5.
    """
    positives = (development_labels == 1).sum(axis=0)
    known = (development_labels != UNKNOWN).sum(axis=0)
    micro_f1, found = -1.0, 0.0
    while found > micro_f1:
        micro_f1 = found
        answer = 2 * positives > micro_f1 * known
        found = float(f_measure(positives @ answer, known @ answer, positives.sum()))
    return np.tile(answer.astype(np.uint8), (clips, 1))


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

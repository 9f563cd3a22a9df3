"""Metrics of an epoch agree with those of the evaluation, and count every example once."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.metrics import overall_metrics
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import UNKNOWN
from irmas_dist.training.epoch_metrics import (
    COUNTS,
    count_decisions,
    f1_at,
    training_metrics,
    validation_metrics,
)
from tests.training.conftest import VOCABULARY


@budget(max_examples=60)
@given(st.integers(1, 20), st.integers(0, 1_000), st.sampled_from([0.0, 0.3, 1.0]))
def test_validation_metrics_are_those_of_the_evaluation(
    clips: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((clips, 3)) < share).astype(np.uint8)
    # Coarse, so that there are ties, and scores at the threshold.
    scores = (rng.integers(0, 9, (clips, 3)) / 8).astype(np.float32)
    ours = validation_metrics(labels, scores, ThresholdSettings(), VOCABULARY)
    fitted = overall_metrics(labels, scores, fit_thresholds(labels, scores, ThresholdSettings()))
    halfway = overall_metrics(labels, scores, 0.5)
    compared = halfway.keys() & {key.removeprefix("val_") for key in ours}
    for name in compared:
        expected = (fitted if name.endswith("f1") else halfway)[name]
        assert ours[f"val_{name}"] == pytest.approx(expected, abs=1e-6), name
    assert {"micro_f1", "macro_f1", "subset_accuracy", "lrap", "map"} <= compared
    for index, code in enumerate(VOCABULARY.codes):
        correct = ((scores[:, index] >= 0.5) == labels[:, index]).mean()
        assert ours[f"val_label_accuracy_{code}"] == pytest.approx(correct, abs=1e-6)


def test_an_instrument_has_the_accuracy_of_the_stores_where_it_is_known() -> None:
    labels = np.array([[1, 1, UNKNOWN], [0, 0, UNKNOWN], [1, UNKNOWN, UNKNOWN]], np.int8)
    scores = np.array([[0.9, 0.8, 0.9], [0.1, 0.2, 0.9], [0.9, 0.9, 0.9]], np.float32)
    found = validation_metrics(labels, scores, ThresholdSettings(), VOCABULARY, stores=[2, 1])
    accuracies = {name: found.get(f"val_label_accuracy_{name}") for name in VOCABULARY.codes}
    assert accuracies == {"low": 1.0, "mid": 1.0, "top": None}


def test_figures_of_stores_are_at_the_thresholds_of_their_mean() -> None:
    labels = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1]], np.int8)
    scores = np.array([[0.9, 0.2, 0.1], [0.1, 0.8, 0.9], [0.9, 0.1, 0.2]], np.float32)
    found = f1_at(labels, scores, np.full(3, 0.5, np.float32), stores=[2, 1])
    each = [found[f"val_macro_f1_store_{number}"] for number in (1, 2)]
    assert each == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert found["val_macro_f1"] == pytest.approx(np.mean(each))
    assert "val_macro_f1_store_1" not in f1_at(labels, scores, np.full(3, 0.5, np.float32))


def test_validation_metrics_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 3)) < [0.1, 0.3, 0.6]).astype(np.uint8)
    scores = np.clip(0.5 * labels + 0.6 * rng.random((200, 3)), 0, 1).astype(np.float32)
    fitted = scores >= fit_thresholds(labels, scores, ThresholdSettings())
    halfway = scores >= 0.5
    assert (fitted != halfway).any()
    expected = {
        "val_micro_f1": sklearn.f1_score(labels, fitted, average="micro"),
        "val_macro_f1": sklearn.f1_score(labels, fitted, average="macro"),
        "val_micro_precision": sklearn.precision_score(labels, halfway, average="micro"),
        "val_micro_recall": sklearn.recall_score(labels, halfway, average="micro"),
        "val_macro_precision": sklearn.precision_score(labels, halfway, average="macro"),
        "val_macro_recall": sklearn.recall_score(labels, halfway, average="macro"),
        "val_subset_accuracy": sklearn.accuracy_score(labels, halfway),
        "val_label_accuracy": 1 - sklearn.hamming_loss(labels, halfway),
        "val_lrap": sklearn.label_ranking_average_precision_score(labels, scores),
        "val_map": sklearn.average_precision_score(labels, scores, average="macro"),
    }
    for index, code in enumerate(VOCABULARY.codes):
        expected[f"val_label_accuracy_{code}"] = sklearn.accuracy_score(
            labels[:, index], halfway[:, index]
        )
    ours = validation_metrics(labels, scores, ThresholdSettings(), VOCABULARY)
    assert ours == pytest.approx(expected, abs=1e-6)


@budget(max_examples=20)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 99))
def test_training_metrics_do_not_depend_on_how_examples_come_in(
    sizes: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(sum(sizes), 3, generator=generator)
    labels = torch.randint(2, (sum(sizes), 3), generator=generator).float()
    counts = torch.zeros(COUNTS, dtype=torch.float64)
    for part in zip(logits.split(sizes), labels.split(sizes), strict=True):
        counts += count_decisions(*part)
    predicted, positive = logits.numpy() > 0, labels.numpy() == 1
    true_positives = (predicted & positive).sum()
    assert training_metrics(counts) == pytest.approx(
        {
            "train_label_accuracy": (predicted == positive).sum() / max(predicted.size, 1),
            "train_micro_precision": true_positives / max(predicted.sum(), 1),
            "train_micro_recall": true_positives / max(positive.sum(), 1),
        }
    )


def test_training_metrics_of_a_batch_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [-0.1, 3.0, 0.0]])
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert count_decisions(logits, labels).tolist() == [6, 4, 2, 3, 3]
    assert training_metrics(count_decisions(logits, labels)) == pytest.approx(
        {
            "train_label_accuracy": 4 / 6,
            "train_micro_precision": 2 / 3,
            "train_micro_recall": 2 / 3,
        }
    )

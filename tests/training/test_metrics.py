"""Metrics of an epoch agree with those of the evaluation, and count every example once."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from torchmetrics.functional.classification import multilabel_ranking_average_precision

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation.metrics import evaluate
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.training.epoch_metrics import training_metrics, validation_metrics
from tests.training.conftest import VOCABULARY


@budget(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 1_000), st.sampled_from([0.0, 0.3, 1.0]))
def test_validation_metrics_are_those_of_the_evaluation(
    clips: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((clips, 3)) < share).astype(np.uint8)
    # Coarse, so that there are ties, and scores at the threshold.
    scores = (rng.integers(0, 9, (clips, 3)) / 8).astype(np.float32)
    ours = validation_metrics(labels, scores, ThresholdSettings(), VOCABULARY)
    fitted = evaluate(labels, scores, fit_thresholds(labels, scores, ThresholdSettings()))
    halfway = evaluate(labels, scores, 0.5)
    compared = halfway.keys() & {key.removeprefix("val_") for key in ours}
    for name in compared:
        expected = (fitted if name.endswith("f1") else halfway)[name]
        assert ours[f"val_{name}"] == pytest.approx(expected, abs=1e-6), name
    assert {"micro_f1", "macro_f1", "subset_accuracy", "lrap", "map"} <= compared
    for index, code in enumerate(VOCABULARY.codes):
        right = ((scores[:, index] >= 0.5) == labels[:, index]).mean()
        assert ours[f"val_label_accuracy_{code}"] == pytest.approx(right, abs=1e-6)
    theirs = multilabel_ranking_average_precision(
        torch.from_numpy(scores), torch.from_numpy(labels.astype(np.int64)), 3
    )
    assert ours["val_lrap"] == pytest.approx(float(theirs), abs=1e-6)


@budget(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 99))
def test_training_metrics_do_not_depend_on_how_examples_come_in(
    sizes: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    said, there = (torch.randint(2, (sum(sizes), 3), generator=generator) for _ in range(2))
    running = training_metrics(3, torch.device("cpu"))
    for part in zip(said.split(sizes), there.split(sizes), strict=True):
        running.update(*part)
    values = {name: float(value) for name, value in running.compute().items()}
    hits = float((said & there).sum())
    assert values == pytest.approx(
        {
            "train_label_accuracy": float((said == there).sum()) / max(said.numel(), 1),
            "train_micro_precision": hits / max(float(said.sum()), 1),
            "train_micro_recall": hits / max(float(there.sum()), 1),
        }
    )

"""The losses: published formulas, limits, and weights of rare instruments."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from irmas_dist.config.training import LossSettings
from irmas_dist.training.losses import Loss

COUNTS = np.repeat(np.eye(3, dtype=np.float32), (2, 6, 12), axis=0)
"""Training labels: two clips of the first instrument, six of the second, twelve of the third."""

KINDS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["bce", "focal", "asymmetric"]),
        "balance": st.floats(0, 1),
        "smoothing": st.sampled_from([0.0, 0.1]),
        "gamma": st.floats(0, 5),
        "gamma_positive": st.floats(0, 5),
        "gamma_negative": st.floats(0, 5),
        "margin": st.sampled_from([0.0, 1e-9, 0.05, 0.3]),
    }
)


def loss(logits: Tensor, labels: Tensor, **values: Any) -> Tensor:
    return Loss(LossSettings.model_validate({"smoothing": 0.0} | values), COUNTS)(logits, labels)


def some(seed: int = 0, windows: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(windows, 3, generator=generator)
    return logits, (torch.rand(windows, 3, generator=generator) < 0.4).float()


def test_binary_cross_entropy_is_torchs() -> None:
    logits, labels = some()
    expected = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    torch.testing.assert_close(loss(logits, labels), expected)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "focal", "gamma": 0.0},
        {"kind": "asymmetric", "gamma_positive": 0.0, "gamma_negative": 0.0, "margin": 0.0},
    ],
)
@pytest.mark.parametrize("common", [{}, {"balance": 1.0, "smoothing": 0.2}])
def test_without_exponents_and_margin_all_kinds_are_binary_cross_entropy(
    values: dict[str, Any], common: dict[str, Any]
) -> None:
    logits, labels = some()
    torch.testing.assert_close(loss(logits, labels, **values, **common),
                               loss(logits, labels, **common))  # fmt: skip


def test_focal_loss_is_equation_4_of_lin_et_al() -> None:
    logits, labels = some()
    p = logits.sigmoid().double()
    p_t = torch.where(labels == 1, p, 1 - p)
    expected = -((1 - p_t) ** 2 * p_t.log()).sum()
    torch.testing.assert_close(loss(logits, labels, kind="focal").double(), expected)


def test_asymmetric_loss_is_equation_7_of_ridnik_et_al() -> None:
    logits, labels = some()
    p = logits.sigmoid().double()
    shifted = (p - 0.1).clamp(min=0)
    positive = (1 - p) * p.log()
    negative = shifted**3 * (1 - shifted).log()
    expected = -torch.where(labels == 1, positive, negative).sum()
    values = {"gamma_positive": 1.0, "gamma_negative": 3.0, "margin": 0.1}
    ours = loss(logits, labels, kind="asymmetric", **values).double()
    torch.testing.assert_close(ours, expected)


def test_balance_weights_positives_by_the_ratio_of_negatives_to_positives() -> None:
    weights = [
        Loss(LossSettings(balance=balance), COUNTS).positive_weight.tolist()
        for balance in (0.0, 0.5, 1.0)
    ]
    assert weights[0] == [1, 1, 1]
    assert weights[1] == pytest.approx([3, (14 / 6) ** 0.5, (8 / 12) ** 0.5])
    assert weights[2] == pytest.approx([9, 14 / 6, 8 / 12])


def test_an_instrument_without_training_clips_has_a_finite_weight() -> None:
    labels = np.zeros((4, 2), np.float32)
    labels[:, 0] = 1
    weight = Loss(LossSettings(balance=1.0), labels).positive_weight
    assert weight.tolist() == [0.25, 3.0]


def test_smoothing_draws_labels_towards_a_half() -> None:
    logits, labels = some()
    soft = F.binary_cross_entropy_with_logits(logits, labels * 0.8 + 0.1, reduction="sum")
    torch.testing.assert_close(loss(logits, labels, smoothing=0.2), soft)


@settings(max_examples=60)
@given(KINDS, st.integers(0, 99), st.integers(0, 5))
def test_a_sum_over_shares_is_the_sum_over_the_batch(
    values: dict[str, Any], seed: int, cut: int
) -> None:
    logits, labels = some(seed)
    shares = [loss(logits[part], labels[part], **values) for part in (slice(cut), slice(cut, None))]
    torch.testing.assert_close(sum(shares), loss(logits, labels, **values))


@settings(max_examples=100)
@given(KINDS, st.sampled_from([-1e4, -200.0, -90.0, -17.0, -1e-3, 0.0, 1e-3, 17.0, 90.0, 1e4]))
@example({"kind": "asymmetric", "margin": 1e-9}, 90.0)
def test_loss_and_gradient_are_finite_for_any_logit(values: dict[str, Any], logit: float) -> None:
    logits = torch.full((2, 3), logit, requires_grad=True)
    value = loss(logits, torch.tensor([[0.0] * 3, [1.0] * 3]), **values)
    value.backward()
    assert value.isfinite()
    assert value >= 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()

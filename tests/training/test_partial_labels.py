"""Clips of several instruments, of which some are unknown, are learnt from as far as known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.config.augment import AugmentSettings, MixSettings
from irmas_dist.config.training import LearnerSettings, LossSettings
from irmas_dist.features.clips import Clips
from irmas_dist.training.data import TrainingData
from irmas_dist.training.epoch_metrics import count_decisions, training_metrics
from irmas_dist.training.learner import SELECTED_BY, Learner
from irmas_dist.training.losses import Loss
from irmas_dist.training.sampling import plan_epoch
from irmas_dist.training.windows import DeviceClips
from tests.training.conftest import BANDS, CLIPS
from tests.training.test_augment import MIXER, by_hand, sent

NAN = float("nan")
LOSSES = [
    LossSettings(),
    LossSettings(kind="focal", balance=0.5),
    LossSettings(kind="asymmetric", balance=1.0, smoothing=0.0),
]


@pytest.mark.parametrize("settings", LOSSES)
@given(seed=st.integers(0, 1_000))
def test_an_unknown_label_adds_nothing_to_the_loss_nor_to_a_gradient(
    settings: LossSettings, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((6, 4)) < 0.4).astype(np.float32)
    known = rng.random((6, 4)) < 0.5
    partly = torch.from_numpy(np.where(known, labels, NAN).astype(np.float32))
    training = np.where(rng.random((20, 4)) < 0.7, rng.random((20, 4)) < 0.4, NAN)
    loss = Loss(settings, training.astype(np.float32), partial=True)
    logits = torch.from_numpy(rng.normal(0, 3, (6, 4)).astype(np.float32)).requires_grad_()
    total = loss(logits, partly)
    total.backward()
    expected = 0.0
    whole = Loss(settings, training.astype(np.float32))
    for i in range(4):  # instrument by instrument, of known clips only
        whole.positive_weight = loss.positive_weight[i : i + 1]
        rows = torch.from_numpy(known[:, i])
        of_one = torch.from_numpy(labels[:, i : i + 1])[rows]
        expected += float(whole(logits.detach()[rows, i : i + 1], of_one))
    assert float(total.detach()) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert logits.grad is not None
    assert (logits.grad[torch.from_numpy(~known)] == 0).all()
    assert logits.grad.isfinite().all()


def test_rare_instruments_are_weighted_by_what_is_known() -> None:
    labels = np.array([[1, 1], [0, NAN], [0, NAN], [0, 0]], np.float32)
    loss = Loss(LossSettings(balance=1.0), labels, partial=True)
    assert loss.positive_weight.tolist() == [3, 1]


def test_training_metrics_count_known_labels() -> None:
    logits = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
    labels = torch.tensor([[1.0, NAN, 1.0], [0.0, NAN, NAN]])
    assert count_decisions(logits, labels).tolist() == [3, 1, 1, 2, 2]
    assert training_metrics(count_decisions(logits, labels))["train_micro_recall"] == 0.5


def partly(labels: list[list[float]]) -> DeviceClips:
    clips = replace(CLIPS.select(list(range(len(labels)))), labels=np.array(labels, np.float32))
    return DeviceClips(clips, torch.device("cpu"))


def test_a_mixture_has_what_any_source_has_and_does_not_know_what_one_does_not() -> None:
    pool = partly([[1, NAN, 0], [0, 0, NAN], [NAN, 1, 0]])
    for sources, union in (([0, 1], [1, NAN, NAN]), ([1, 2], [NAN, 1, NAN]), ([0, 2], [1, 1, 0])):
        _, labels = MIXER(pool, sent(by_hand(sources, [0] * len(sources))), 20)
        np.testing.assert_array_equal(labels[0].numpy(), np.array(union, np.float32))


def test_soft_labels_stay_as_they_are() -> None:
    pool = partly([[0.3, NAN, 0], [0.9, 0.2, 0]])
    _, labels = MIXER(pool, sent(by_hand([1], [0])), 20)
    np.testing.assert_allclose(labels[0].numpy(), [0.9, 0.2, 0])


def test_a_mixture_has_the_largest_of_soft_labels() -> None:
    """What counts as absent in each source is not present in all of them together."""
    pool = partly([[0.4, 0.4, 0.8], [0.4, 0.4, 0.3], [0.1, NAN, NAN]])
    for sources, union in (([0, 1], [0.4, 0.4, 0.8]), ([0, 1, 2], [0.4, NAN, 0.8])):
        _, labels = MIXER(pool, sent(by_hand(sources, [0] * len(sources))), 20)
        np.testing.assert_array_equal(labels[0].numpy(), np.array(union, np.float32))


@pytest.mark.parametrize("instruments", [1, 2, 3])
def test_clips_are_added_until_a_mixture_has_the_drawn_number_of_instruments(
    instruments: int,
) -> None:
    labels = np.zeros((30, 12), np.float32)
    for clip in range(30):
        labels[clip, (np.arange(instruments) + clip * instruments) % 12] = 1
    clips = replace(CLIPS, labels=labels)
    counts = AugmentSettings(mix=MixSettings(counts=(0, 0, 0, 0, 0, 1)))  # six
    plan = plan_epoch(clips, BANDS, 20, 20, counts, np.random.default_rng(0))
    sources = np.diff(plan.first)
    assert (sources == 6 // instruments).all()


def masked(clips: Clips, rng: np.random.Generator, share: float) -> Clips:
    unknown = rng.random(clips.labels.shape) < share
    return replace(clips, labels=np.where(unknown, np.nan, clips.labels).astype(np.float32))


@pytest.mark.parametrize("loss", LOSSES)
def test_where_all_labels_are_known_a_mask_changes_no_bit_of_the_training(
    data: TrainingData, settings: LearnerSettings, loss: LossSettings
) -> None:
    """Of an unknown label in validation the loss has a mask, which leaves all training clips in."""
    unknown = data.validation.labels.copy()
    unknown[0, 0] = NAN
    partial = replace(data, validation=replace(data.validation, labels=unknown))
    training = settings.training.model_copy(update={"loss": loss})
    settings = settings.model_copy(update={"training": training})
    plain, with_mask = (Learner(of, settings) for of in (data, partial))
    for learner in (plain, with_mask):
        learner.train_epoch()
        learner.train_epoch()
    for name, value in plain.network.state_dict().items():
        assert torch.equal(value, with_mask.network.state_dict()[name]), name


@given(seed=st.integers(0, 1_000))
def test_where_all_labels_are_known_a_mixture_is_the_same_with_a_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = partly(rng.integers(0, 2, (3, 3)).tolist())
    sources = rng.permutation(3)[: rng.integers(1, 4)].tolist()
    plan = sent(by_hand(sources, [0] * len(sources)))
    plain = MIXER(pool, plan, 20)
    pool.partial = True
    for one, other in zip(plain, MIXER(pool, plan, 20), strict=True):
        assert torch.equal(one, other)


def test_partly_known_labels_suffice_to_learn(
    data: TrainingData, settings: LearnerSettings
) -> None:
    rng = np.random.default_rng(0)
    assert isinstance(data.training, Clips)
    training = masked(data.training, rng, 0.5)
    partial = replace(data, training=training, validation=masked(data.validation, rng, 0.5))
    assert partial.is_partial
    assert not data.is_partial
    settings = settings.model_copy(
        update={"training": settings.training.model_copy(update={"epochs": 25, "patience": 25})}
    )
    learner = Learner(partial, settings)
    while not learner.finished:
        metrics = learner.run_epoch()
        assert all(np.isfinite(value) for value in metrics.values())
    learner.restore_best()
    # Of all labels, unknown ones too.
    whole = Learner(data, settings)
    whole.network.load_state_dict(learner.network.state_dict())
    assert whole.validate()[SELECTED_BY] > 0.85

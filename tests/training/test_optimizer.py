"""Steps of the optimiser: schedule, clipping, weight decay and average, skipped steps."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from irmas_dist.config.training import TrainingSettings
from irmas_dist.errors import IrmasError
from irmas_dist.training.optimizer import MOST_SKIPPED, Optimisation


def optimisation(network: nn.Module | None = None, steps: int = 10, **values: Any) -> Optimisation:
    network = nn.Linear(3, 2) if network is None else network
    return Optimisation(network, TrainingSettings.model_validate(values), steps)


def step(ours: Optimisation, gradient: float = 1.0) -> bool:
    ours.begin()
    for parameter in ours.network.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    return end(ours)


def end(ours: Optimisation) -> bool:
    """End a step, and an epoch of this one step."""
    taken = bool(ours.step(ours.rates(1)[0]))
    ours.end_steps(1)
    return taken


def flat(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in network.parameters()])


@pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("cosine", 0.0)])
def test_learning_rate_rises_and_then_follows_its_schedule(schedule: str, last: float) -> None:
    ours = optimisation(steps=6, schedule=schedule, warmup_epochs=1.0, epochs=5)
    factors = [ours.factor(step) for step in range(5 * 6 + 1)]
    assert factors[:6] == sorted(factors[:6])
    assert factors[0] < 0.2
    assert factors[6] == pytest.approx(1.0, abs=0.01)
    assert factors[6:] == sorted(factors[6:], reverse=True)
    assert factors[-1] == pytest.approx(last, abs=1e-9)


def test_a_plateau_lowers_the_learning_rate_after_the_given_number_of_epochs() -> None:
    ours = optimisation(
        schedule="plateau", warmup_epochs=0.0, lr=1.0, plateau_epochs=2, plateau_factor=0.1
    )
    rates = []
    for value in (0.5, 0.6, 0.6, 0.5, 0.7, 0.6, 0.6, 0.6, 0.6):
        ours.end_epoch(value)
        rates.append(ours.lr)
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_the_learning_rate_is_that_of_the_schedule_at_every_step() -> None:
    ours = optimisation(steps=4, lr=0.1, schedule="cosine", warmup_epochs=1.0, epochs=2)
    for number in range(8):
        assert ours.lr == pytest.approx(0.1 * ours.factor(number))
        step(ours)
        rates = [group["lr"] for group in ours._optimizer.param_groups]
        assert {float(rate) for rate in rates} == {0.1 * ours.factor(number)}


def test_gradients_above_the_norm_are_scaled_down_to_it() -> None:
    """Adam's first moment after one step is a tenth of the gradient."""
    for clip, norm in ((None, 8.0), (100.0, 8.0), (0.5, 0.5)):
        ours = optimisation(clip_norm=clip)
        step(ours, gradient=8 / math.sqrt(8))  # of 8 parameters: norm 8
        moments = [state["exp_avg"].flatten() for state in ours._optimizer.state.values()]
        assert 10 * float(torch.cat(moments).norm()) == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_biases_and_normalisation_are_exempt_from_weight_decay(optimizer: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(3, 2))
    nn.init.ones_(network[0].bias)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    ours = optimisation(network, optimizer=optimizer, weight_decay=0.1, warmup_epochs=0.0)
    step(ours, gradient=0.0)
    moved = {name for name, value in network.named_parameters() if (value != before[name]).any()}
    assert moved == {"0.weight", "2.weight"}


def test_decoupled_decay_shrinks_weights_by_lr_times_decay() -> None:
    ours = optimisation(optimizer="adamw", lr=0.5, weight_decay=0.1, warmup_epochs=0.0)
    weight = ours.network.weight
    before = weight.detach().clone()
    step(ours, gradient=0.0)
    torch.testing.assert_close(weight.detach(), before * 0.95)


def test_the_average_is_exponential_with_a_lower_decay_at_first() -> None:
    ours = optimisation(ema=0.5)
    expected = torch.zeros(0)
    for number in range(20):
        step(ours)
        now = flat(ours.network)
        decay = min(0.5, (1 + number) / (10 + number))
        expected = now if number == 0 else decay * expected + (1 - decay) * now
        torch.testing.assert_close(flat(ours.validated), expected)
    assert not torch.equal(flat(ours.validated), flat(ours.network))


def test_statistics_of_batch_normalisation_are_averaged_like_the_weights() -> None:
    network = nn.BatchNorm1d(1)
    ours = optimisation(network, ema=0.5)
    for mean in (0.0, 8.0, 8.0):
        network.running_mean.fill_(mean)
        step(ours)
    first, second = 2 / 11, 3 / 12
    assert ours.validated.running_mean.item() == pytest.approx(8 * (1 - first * second))


def test_without_averaging_the_network_itself_is_validated() -> None:
    ours = optimisation()
    assert ours.validated is ours.network


def test_a_skipped_step_changes_only_its_count() -> None:
    ours = optimisation(nn.BatchNorm1d(3), on_nan="skip", ema=0.9)
    step(ours)
    before = [
        {name: value.clone() for name, value in network.state_dict().items()}
        for network in ours.networks
    ]
    ours.begin()
    ours.network(torch.full((4, 3), math.nan)).sum().backward()
    assert not end(ours)
    for network, state in zip(ours.networks, before, strict=True):
        for name, value in network.state_dict().items():
            assert torch.equal(value, state[name]), name
    assert ours.skipped == 1
    assert step(ours)


def test_only_steps_skipped_in_a_row_stop_training() -> None:
    ours = optimisation(on_nan="skip")
    for _ in range(2):
        for _ in range(MOST_SKIPPED - 1):
            assert not step(ours, gradient=math.nan)
        assert step(ours)
    for _ in range(MOST_SKIPPED - 1):
        step(ours, gradient=math.inf)
    with pytest.raises(IrmasError, match=r"^20 steps in a row had to be skipped"):
        step(ours, gradient=math.nan)


def test_the_head_has_a_learning_rate_of_its_own_on_the_same_schedule() -> None:
    """Adam's first steps are as long as the learning rate."""
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    ours = Optimisation(
        network, TrainingSettings(lr=0.01, head_lr=0.05, warmup_epochs=1.0, schedule="constant"),
        steps=3, head=network[1].parameters(),
    )  # fmt: skip
    for factor in (0.25, 0.5, 0.75, 1.0):
        body, head = flat(network[0]), flat(network[1])
        step(ours)
        torch.testing.assert_close(body - flat(network[0]), torch.full_like(body, 0.01 * factor))
        torch.testing.assert_close(head - flat(network[1]), torch.full_like(head, 0.05 * factor))
    assert ours.lr == pytest.approx(0.01)


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.1), (0.1, 0.0), (0.1, 0.1)])
def test_a_checkpoint_of_another_weight_decay_is_resumed_with_this_one(
    before: float, after: float
) -> None:
    """A trial that takes over another's weights has a recipe of its own."""
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    saving = optimisation(network, weight_decay=before)
    for gradient in (1.0, -3.0):
        step(saving, gradient)
    resumed = optimisation(network, weight_decay=after)
    own = [dict(group) for group in resumed._optimizer.param_groups]
    resumed.load_state_dict(saving.state_dict())
    assert [dict(group) for group in resumed._optimizer.param_groups] == own
    assert all(group["lr"] is resumed._lr for group in resumed._optimizer.param_groups)
    for parameter in network.parameters():
        for name, value in saving._optimizer.state[parameter].items():
            assert torch.equal(resumed._optimizer.state[parameter][name], value)


def test_both_learning_rates_survive_a_resume() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    settings = TrainingSettings(lr=0.01, head_lr=0.05, warmup_epochs=0.0, schedule="constant")
    ours, again = (Optimisation(network, settings, 3, network[1].parameters()) for _ in range(2))
    step(ours)
    again.load_state_dict(ours.state_dict())
    head = flat(network[1])
    step(again)
    torch.testing.assert_close(head - flat(network[1]), torch.full_like(head, 0.05))


def test_frozen_parameters_stay_and_do_not_count_in_the_norm() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    ours = optimisation(network, clip_norm=1.0, weight_decay=0.1, optimizer="adamw")
    ours.frozen = [*network[0].parameters()]
    before, head = flat(network[0]), flat(network[1])
    ours.begin()
    for parameter in network[1].parameters():
        parameter.grad = torch.full_like(parameter, 0.1)
    for parameter in network[0].parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    assert end(ours)
    assert torch.equal(flat(network[0]), before)
    assert not torch.equal(flat(network[1]), head)
    ours.frozen.clear()
    step(ours)
    assert not torch.equal(flat(network[0]), before)


def test_the_average_begins_with_the_first_step_that_is_taken() -> None:
    """Random initial weights are not in it, however many steps are skipped."""
    ours = optimisation(ema=0.9, on_nan="skip")
    assert not step(ours, gradient=math.nan)
    assert step(ours)
    assert torch.equal(flat(ours.validated), flat(ours.network))

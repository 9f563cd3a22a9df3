"""Weights of one network in another: every layer of the same place and shape, outputs by code."""

from typing import Any

import pytest
import torch

from irmas_dist.config.model import ModelSettings
from irmas_dist.instruments import Vocabulary
from irmas_dist.models.cnn import CNN, initialise
from irmas_dist.models.transfer import named_layers, transfer

SMALL: dict[str, Any] = {"blocks": 2, "width": 4, "dense": 8, "normalisation": "batch"}
ABC = Vocabulary.of({"a": "A", "b": "B", "c": "C"})


def network(seed: int, vocabulary: Vocabulary = ABC, **model: Any) -> CNN:
    made = CNN(ModelSettings.model_validate(SMALL | model), 16, 16, len(vocabulary))
    initialise(made, seed)
    for buffer in made.buffers():
        if buffer.is_floating_point():
            torch.nn.init.constant_(buffer, seed)
    return made


def taken(source: CNN, target: CNN) -> set[str]:
    """Names of the layers that are the same in both."""
    ours, theirs = named_layers(target), named_layers(source)
    return {
        name
        for name in ours.keys() & theirs.keys()
        if all(
            value.shape == other.shape and torch.equal(value, other)
            for value, other in zip(
                ours[name].state_dict().values(), theirs[name].state_dict().values(), strict=True
            )
        )
    }


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"residual": True, "squeeze_excite": True, "convolutions": 2, "head": "attention"},
        {"normalisation": "group", "head": "flatten", "dense": 0},
        {"normalisation": "none", "dropout": {"maps": 0.1, "head": 0.1}},
    ],
)
def test_a_network_of_the_same_settings_becomes_the_same(model: dict[str, Any]) -> None:
    source, target = network(1, **model), network(2, **model)
    assert transfer(source, ABC, target, ABC) == ([], [])
    for name, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    windows = torch.randn(3, 16, 16)
    assert torch.equal(source.eval()(windows), target.eval()(windows))


def test_layers_without_weights_move_no_layer_to_another_place() -> None:
    source, target = network(1), network(2, dropout={"maps": 0.2, "head": 0.3})
    assert transfer(source, ABC, target, ABC) == ([], [])
    assert taken(source, target) == named_layers(source).keys()


def test_a_block_more_leaves_the_others_as_they_were_learnt() -> None:
    source, target = network(1), network(2, blocks=3)
    new = transfer(source, ABC, target, ABC)
    changed = ["block 3 Conv2d 1", "block 3 BatchNorm2d 1", "head Linear 1", "output"]
    assert new == (changed, [])
    assert str(new) == "block 3 Conv2d 1, block 3 BatchNorm2d 1, head Linear 1, output"
    blocks = {f"block {n} {kind} 1" for n in (1, 2) for kind in ("Conv2d", "BatchNorm2d")}
    assert taken(source, target) == blocks


def test_another_dense_layer_makes_a_new_head() -> None:
    source, target = network(1), network(2, dense=16)
    before = network(2, dense=16).parts()[-1].state_dict()
    assert transfer(source, ABC, target, ABC) == (["head Linear 1", "output"], [])
    for name, value in target.parts()[-1].state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("source", "target", "fresh"),
    [
        ({"dense": 8}, {"dense": 0}, ["output"]),
        ({"dense": 8}, {"dense": 8, "head": "attention"}, ["head attend Linear 1", "output"]),
        (
            {"residual": True, "convolutions": 1},
            {"residual": True, "convolutions": 2},
            [f"block {n} {kind} 2" for n in (1, 2) for kind in ("Conv2d", "BatchNorm2d")],
        ),
    ],
)
def test_a_layer_is_taken_only_for_what_it_has_learnt(
    source: dict[str, Any], target: dict[str, Any], fresh: list[str]
) -> None:
    """Of dense layers of 8, one of 8 channels, and shortcuts, whose shapes are alike."""
    sizes: dict[str, Any] = {"channels": [8, 8], "kernel": 1, "padding": None}
    found = transfer(network(1, **sizes | source), ABC, network(2, **sizes | target), ABC)
    assert found == (fresh, [])


def test_outputs_are_taken_by_the_code_of_their_instrument() -> None:
    wanted = Vocabulary.of({"c": "C", "d": "D", "a": "A"})
    source, target = network(1), network(2, wanted)
    fresh = network(2, wanted).layers[-1]
    new = transfer(source, ABC, target, wanted)
    assert new == ([], ["d"])
    assert str(new) == "output of d"
    for name in ("weight", "bias"):
        ours, theirs = target.layers[-1].get_parameter(name), source.layers[-1].get_parameter(name)
        assert torch.equal(ours[0], theirs[2])
        assert torch.equal(ours[1], fresh.get_parameter(name)[1])
        assert torch.equal(ours[2], theirs[0])


def test_no_instrument_in_common_makes_a_new_output() -> None:
    wanted = Vocabulary.of({"x": "X", "y": "Y", "z": "Z"})
    source, target = network(1), network(2, wanted)
    assert transfer(source, ABC, target, wanted) == (["output"], [])
    assert "output" not in taken(source, target)
    assert "head Linear 1" in taken(source, target)


def test_nothing_fits_another_width() -> None:
    target = network(2, width=6, dense=9)
    new = transfer(network(1), ABC, target, ABC)
    assert new == (list(named_layers(target)), [])

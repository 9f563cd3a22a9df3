"""The family of networks: those of the shipped recipes, any other, and the refusals."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from irmas_dist.config.model import ModelSettings
from irmas_dist.config.recipe import build_recipe, load_recipe
from irmas_dist.errors import IrmasError
from irmas_dist.models.cnn import CNN, initialise, parameter_count
from tests.conftest import CONFIGS

SMALL: dict[str, Any] = {"blocks": 2, "width": 4, "dense": 8, "pool": 2}


def shapes(network: CNN, bands: int, frames: int) -> list[tuple[str, tuple[int, ...]]]:
    """Kind and output shape of every layer, for one window."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    maps = torch.zeros(1, 1, bands, frames)
    with torch.no_grad():
        for layer in network.eval().layers:
            maps = layer(maps)
            seen.append((type(layer).__name__, tuple(maps.shape[1:])))
    return seen


def test_seed_is_the_plain_network_and_nothing_else() -> None:
    settings = load_recipe(CONFIGS / "seed.yaml").model
    network = CNN(settings, bands=128, frames=43, instruments=11)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == [
        *("Conv2d", "ReLU", "MaxPool2d", "Dropout") * 3,
        *("Flatten", "Linear", "ReLU", "Dropout", "Linear"),
    ]


def test_han2016_has_the_published_parameters_and_the_published_shapes() -> None:
    recipe = load_recipe(CONFIGS / "han2016.yaml")
    frames = recipe.window.frames(recipe.features)
    assert (recipe.features.bands, frames) == (128, 43)
    network = CNN(recipe.model, recipe.features.bands, frames, 11)
    assert parameter_count(network) == 1_446_123
    # Table I of the paper, which writes time x frequency x channels.
    assert [shape for shape in shapes(network, 128, 43) if shape[0] != "LeakyReLU"] == [
        *(("Conv2d", (32, 130, 45)), ("Conv2d", (32, 132, 47))),
        *(("MaxPool2d", (32, 44, 15)), ("Dropout", (32, 44, 15))),
        *(("Conv2d", (64, 46, 17)), ("Conv2d", (64, 48, 19))),
        *(("MaxPool2d", (64, 16, 6)), ("Dropout", (64, 16, 6))),
        *(("Conv2d", (128, 18, 8)), ("Conv2d", (128, 20, 10))),
        *(("MaxPool2d", (128, 6, 3)), ("Dropout", (128, 6, 3))),
        *(("Conv2d", (256, 8, 5)), ("Conv2d", (256, 10, 7))),
        *(("AdaptiveMaxPool2d", (256, 1, 1)), ("Flatten", (256,))),
        *(("Linear", (1_024,)), ("Dropout", (1_024,)), ("Linear", (11,))),
    ]
    slopes = {layer.negative_slope for layer in network.layers if isinstance(layer, nn.LeakyReLU)}
    rates = [layer.p for layer in network.layers if isinstance(layer, nn.Dropout)]
    assert (slopes, rates) == ({0.33}, [0.25, 0.25, 0.25, 0.5])


PLACES = ("blocks", "dense", "maps", "head")


@st.composite
def architectures(draw: st.DrawFn) -> dict[str, Any]:
    """Any settings at all, of networks that are quick to build."""
    blocks = draw(st.integers(1, 4))
    sides = st.integers(1, 4) | st.tuples(st.integers(1, 4), st.integers(1, 4))
    rates = st.sampled_from([0.0, 0.4])
    values = {
        "blocks": st.just(blocks),
        "width": st.integers(1, 9),
        "channels": st.none() | st.lists(st.integers(1, 20), min_size=1, max_size=4),
        "convolutions": st.integers(1, 3),
        "kernel": sides,
        "padding": st.none() | st.integers(0, 3),
        "residual": st.booleans(),
        "squeeze_excite": st.booleans(),
        "normalisation": st.sampled_from(["none", "batch", "group", "instance", "ibn"]),
        "activation": st.sampled_from(["relu", "leaky_relu", "elu", "gelu", "silu"]),
        "pool": sides,
        "pooling": st.sampled_from(["max", "average"]),
        "head": st.sampled_from(["flatten", "max", "average", "attention"]),
        "dense": st.sampled_from([0, 7]),
        "dropout": st.fixed_dictionaries(dict.fromkeys(PLACES, rates)),
    }
    assert values.keys() == ModelSettings.model_fields.keys()
    return draw(st.fixed_dictionaries(values))


@budget(max_examples=80)
@given(architectures(), st.integers(1, 24), st.integers(1, 24))
def test_all_settings_build_and_learn_or_are_refused_in_one_line(
    model: dict[str, Any], bands: int, frames: int
) -> None:
    try:
        settings = build_recipe({"model": model}, {}, "the test").model
        network = CNN(settings, bands, frames, 3)
    except IrmasError as error:
        network, refusal = None, str(error)
    if network is None:
        assert "\n" not in refusal
        assert any(name in refusal for name in ("model.blocks", "padding", "channels"))
        return
    initialise(network, 0)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits = network(torch.randn(4, bands, frames))
    assert logits.shape == (4, 3)
    F.binary_cross_entropy_with_logits(logits, torch.eye(4, 3)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"blocks": 5, "pool": 3, "head": "flatten"},
            r"model\.blocks=5 with model\.pool=3 leaves nothing",
        ),
        (
            {"blocks": 2, "kernel": [9, 5], "padding": 0, "pool": [8, 2]},
            r"model\.kernel=\[9, 5\] and model\.padding=0, model\.pool=\[8, 2\] leaves nothing in "
            r"block 2 of a window of 64 bands by 43 frames",
        ),
        (
            {"blocks": 3, "pool": [8, 6], "normalisation": "batch"},
            r"model\.pool=\[8, 6\] leaves a single value for model\.normalisation=batch in block 3",
        ),
    ],
)
def test_a_map_that_pooling_swallows_is_refused_with_the_settings_to_change(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(IrmasError, match=message):
        CNN(ModelSettings.model_validate(values), bands=64, frames=43, instruments=11)


def test_weights_depend_on_the_seed_alone() -> None:
    settings = ModelSettings.model_validate(SMALL | {"head": "attention"})
    networks = [CNN(settings, 16, 16, 3) for _ in range(3)]
    state = torch.get_rng_state()
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialise(network, seed)
    assert torch.equal(torch.get_rng_state(), state)
    first, same, other = (weights(network) for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

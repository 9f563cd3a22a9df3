"""The family of networks: the shapes, the parameters, and the refusals."""

import pytest
import torch

from irmas_dist.config import load_recipe
from irmas_dist.errors import IrmasError
from irmas_dist.models.cnn import CNN, ModelSettings, initialise, parameter_count
from tests.conftest import CONFIGS


def test_seed_is_the_plain_network_and_nothing_else() -> None:
    settings = load_recipe(CONFIGS / "seed.yaml").model
    network = CNN(settings, bands=128, frames=43, instruments=11)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == [
        *("Conv2d", "ReLU", "MaxPool2d", "Dropout") * 3,
        *("Flatten", "Linear", "ReLU", "Dropout", "Linear"),
    ]


def test_han2016_has_the_published_number_of_parameters() -> None:
    recipe = load_recipe(CONFIGS / "han2016.yaml")
    frames = recipe.window.frames(recipe.features)
    assert frames == 43
    network = CNN(recipe.model, recipe.features.bands, frames, 11)
    assert parameter_count(network) == 1_446_123


@pytest.mark.parametrize("head", ["flatten", "max", "average"])
@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_one_logit_per_instrument(head: str, normalisation: str) -> None:
    settings = ModelSettings(
        blocks=2, width=4, dense=0, head=head, normalisation=normalisation, pool=2
    )
    network = CNN(settings, bands=16, frames=20, instruments=5)
    assert network(torch.randn(3, 16, 20)).shape == (3, 5)


def test_a_map_that_pooling_swallows_is_refused_with_the_settings_to_change() -> None:
    with pytest.raises(IrmasError, match=r"model\.blocks=5 with model\.pool=3"):
        CNN(ModelSettings(blocks=5, head="flatten"), bands=64, frames=43, instruments=11)


def test_weights_depend_on_the_seed_alone() -> None:
    networks = [CNN(ModelSettings(blocks=1, width=4), 16, 16, 3) for _ in range(3)]
    state = torch.get_rng_state()
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialise(network, seed)
    assert torch.equal(torch.get_rng_state(), state)
    first, same, other = (network.layers[0].weight for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)

"""Weights of one network in another: of all layers that fit."""

from collections import Counter
from typing import NamedTuple

import torch
from torch import nn

from irmas_dist.instruments import Vocabulary
from irmas_dist.models.cnn import CNN

OUTPUT = "output"
"""Name of the output layer."""


class NewParts(NamedTuple):
    """What a network does not have of another, and keeps as it was.

    Attributes:
        layers: Names of the layers that do not fit.
        instruments: Codes that the other lacks, of an output layer that fits.
    """

    layers: list[str]
    instruments: list[str]

    def __str__(self) -> str:
        """Name them in a line; empty if nothing is new."""
        rows = [f"{OUTPUT} of {', '.join(self.instruments)}"] if self.instruments else []
        return ", ".join([*self.layers, *rows])


def named_layers(network: CNN) -> dict[str, nn.Module]:
    """Return the layers that have weights or statistics, by their place in the network.

    Places do not change when layers without any, such as dropout, are added: *block 2 Conv2d 1*
    is the first convolution of the second block, *block 2 shortcut Conv2d 1* that of its shortcut.
    """
    layers: dict[str, nn.Module] = {}
    *blocks, head = network.parts()
    for place, part in (*((f"block {n}", each) for n, each in enumerate(blocks, 1)),
                        ("head", head)):  # fmt: skip
        seen: Counter[str] = Counter()
        for path, module in part.named_modules():
            if any(True for _ in module.parameters(recurse=False)):
                # What a layer is for; a residual branch has the layers of a plain block.
                roles = (name for name in path.split(".") if name.isalpha() and name != "branch")
                kind = " ".join([*roles, type(module).__name__])
                seen[kind] += 1
                layers[f"{place} {kind} {seen[kind]}"] = module
    last = list(layers)[-1]
    layers[OUTPUT] = layers.pop(last)
    return layers


@torch.no_grad()
def transfer(source: CNN, given: Vocabulary, target: CNN, wanted: Vocabulary) -> NewParts:
    """Copy the weights and statistics of all layers that fit; the others stay as they are.

    A layer fits that has the same place and shape; of the output layer the row of each
    instrument, by its code, if the heads before it have the same layers, and these fit.

    Args:
        source: The network to copy from.
        given: Its instruments.
        target: The network to copy into.
        wanted: Its instruments.
    """
    new = NewParts([], [])
    found, wanting = named_layers(source), named_layers(target)
    heads = [{name for name in layers if name.startswith("head")} for layers in (found, wanting)]
    for name, layer in wanting.items():
        other = found.get(name)
        if name == OUTPUT:
            rows = [code for code in wanted.codes if code in given]
            fits = heads[0] == heads[1] and not heads[1].intersection(new.layers)
            if fits and rows and _copy_rows(found[OUTPUT], given, layer, wanted, rows):
                new.instruments.extend(code for code in wanted.codes if code not in given)
            else:
                new.layers.append(name)
        elif other is not None and _shapes(other) == _shapes(layer):
            layer.load_state_dict(other.state_dict())
        else:
            new.layers.append(name)
    return new


def _shapes(layer: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, value.shape) for name, value in layer.state_dict().items()]


def _copy_rows(
    source: nn.Module, given: Vocabulary, target: nn.Module, wanted: Vocabulary, codes: list[str]
) -> bool:
    """Copy the rows of an output layer for these instruments; return whether they fit."""
    ours, theirs = target.get_parameter("weight"), source.get_parameter("weight")
    if ours.shape[1:] != theirs.shape[1:]:
        return False
    for name in ("weight", "bias"):
        values = source.get_parameter(name)
        for code in codes:
            target.get_parameter(name)[wanted.codes.index(code)] = values[given.codes.index(code)]
    return True

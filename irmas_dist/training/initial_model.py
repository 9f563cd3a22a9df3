"""The model that a training starts from, and the blocks of it that are kept at first."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from irmas_dist.config.base import differences
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.training import NOTHING_TO_KEEP, LearnerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.instruments import Vocabulary
from irmas_dist.models.cnn import CNN
from irmas_dist.models.transfer import NewParts, named_layers, transfer
from irmas_dist.training.known_audio import KnownAudio
from irmas_dist.training.optimizer import Optimisation
from irmas_dist.training.records import DataRecord, StartRecord


@dataclass(frozen=True)
class InitialModel:
    """A model whose weights and normalisation a training starts with.

    Attributes:
        name: Path or URL of its directory.
        network: With its weights, on the CPU.
        vocabulary: Its instruments.
        features: Settings of its features.
        mean: Of each band, which it is normalised by.
        std: Likewise, the standard deviation.
        digest: Digest of its weights.
        data: What it was made from.
        adapted_to: What it was adapted to; None if nothing.
        known: The audio that it knows.
    """

    name: str
    network: CNN
    vocabulary: Vocabulary
    features: LogMelSettings
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    data: DataRecord
    adapted_to: str | None = None
    known: KnownAudio = field(default_factory=KnownAudio)

    @property
    def record(self) -> StartRecord:
        """What is recorded in a model that started from it."""
        return StartRecord(weights=self.digest, data=self.data, adapted_to=self.adapted_to)

    def describe_start(
        self, settings: LearnerSettings, features: LogMelSettings, vocabulary: Vocabulary
    ) -> str:
        """Return a line that says what a network of these settings takes from it.

        Raises:
            IrmasError: Its features differ, or as for `start_network`.
        """
        if differ := differences(self.features, features):
            raise IrmasError(
                f"--init {self.name} was trained with other feature settings than this recipe "
                f"has: {differ}; extract the audio again with --config {shlex.quote(self.name)}"
            )
        frames = settings.window.frames(features)
        network = CNN(settings.model, features.bands, frames, len(vocabulary))
        new = start_network(network, settings, vocabulary, self)
        layers = len(named_layers(network))
        kept = layers - len(new.layers)
        taken = f"{kept} of {layers} layers and the normalisation of {self.name}"
        if self.adapted_to:
            taken += f", which is adapted to {self.adapted_to}"
        named = str(new)
        return f"starting from {taken}" + (f"; new: {named}" if named else "")


def start_network(
    network: CNN, settings: LearnerSettings, vocabulary: Vocabulary, start: InitialModel | None
) -> NewParts:
    """Copy all weights of a model that fit into a network; without a model change nothing.

    Args:
        network: With random weights.
        settings: Its settings.
        vocabulary: Its instruments.
        start: The model to start from.

    Returns:
        What is new in the network.

    Raises:
        IrmasError: Nothing fits, or blocks are to be kept that are random.
    """
    freeze = settings.training.freeze
    if start is None:
        if freeze.epochs:
            raise IrmasError(NOTHING_TO_KEEP)
        return NewParts([], [])
    new = transfer(start.network, start.vocabulary, network, vocabulary)
    if len(new.layers) == len(named_layers(network)):
        alike = {"dropout": settings.model.dropout}  # It has no weights.
        differ = differences(start.network.settings.model_copy(update=alike), settings.model)
        raise IrmasError(f"--init {start.name}: none of its layers fits this recipe: {differ}")
    frozen = tuple(f"block {number} " for number in range(1, freeze.blocks + 1))
    if random := [name for name in new.layers if name.startswith(frozen)] if frozen else []:
        raise IrmasError(
            f"training.freeze.blocks={freeze.blocks} keeps weights that --init {start.name} does "
            f"not have: {', '.join(random)}"
        )
    return new


@contextmanager
def frozen_blocks(
    network: CNN, blocks: int, optimisation: Optimisation, *, alone: bool
) -> Iterator[None]:
    """Keep the first blocks of a network in training as they are: weights and statistics.

    Args:
        network: The network, in training mode.
        blocks: Number of blocks.
        optimisation: Of the network.
        alone: Whether there is no other worker. Several exchange the gradients of all parameters,
            and those of frozen ones are dropped.
    """
    for block in network.parts()[:blocks]:
        block.eval()
        optimisation.frozen += block.parameters()
        block.requires_grad_(not alone)
    try:
        yield
    finally:
        optimisation.frozen.clear()
        network.requires_grad_()

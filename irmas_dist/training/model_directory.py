"""The model directory: a finished model with everything needed to use or to rebuild it.

``model.safetensors`` holds the weights, ``model.json`` everything else, and ``validation.parquet``
the scores of the validation mixtures, from which thresholds can be fitted again. A directory is
complete once it has a ``model.json``, which is therefore written last.
"""

import hashlib
import os
from typing import Annotated, Any, Literal

import numpy as np
import safetensors.torch
from pydantic import AllowInfNan, ValidationError
from torch import nn

from irmas_dist import storage
from irmas_dist.config.base import Settings
from irmas_dist.config.decisions import AggregationRule
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.model import ModelSettings
from irmas_dist.config.recipe import build_recipe
from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import Scores, write_scores
from irmas_dist.instruments import Vocabulary
from irmas_dist.models.cnn import CNN
from irmas_dist.models.ensemble import Ensemble
from irmas_dist.training.initial_model import InitialModel

VALIDATION_SCORES = "validation.parquet"
"""The scores of the validation clips, in a model directory."""


class Normalisation(Settings):
    """Per-band statistics of the training clips, natural logarithm of mel power."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class ScoringWindows(Settings):
    """Windows in frames, and how their scores are aggregated over a clip."""

    frames: int
    hop_frames: int
    aggregation: AggregationRule


class Calibration(Settings):
    """How scores become comparable with those of other models, see `evaluation.platt`."""

    scale: float = 1.0
    offset: float = 0.0


class EnsembleMember(Settings):
    """A model of an ensemble; fields are those of its own ``model.json``."""

    model: ModelSettings
    normalisation: Normalisation
    aggregation: AggregationRule
    calibration: Calibration | None = None
    """Fitted to its validation scores; none in a model that is no ensemble."""
    recipe: dict[str, Any]
    data: dict[str, Any]
    best_epoch: int
    scores: dict[str, Annotated[float, AllowInfNan()]]


class ModelDescription(Settings):
    """The content of ``model.json``."""

    format: Literal[1] = 1
    instruments: dict[str, str]
    features: LogMelSettings
    normalisation: Normalisation
    model: ModelSettings
    parameters: int
    windows: ScoringWindows
    thresholds: dict[str, float]
    """Decision threshold by instrument: it is predicted when its score is at least this."""
    thresholds_from: str
    """Description of the clips, the rule and the objective of the fitted thresholds."""
    recipe: dict[str, Any]
    """All settings of the training run."""
    data: dict[str, Any]
    """Digests of the manifest, the features and their content, and numbers of clips. Under
    ``also`` those of each further store, with its weight and the number of clips left out; under
    ``init`` the digest of the weights that training started from, and what they were made from;
    under ``validated_on`` those of each store of validation clips, if they have stores of their
    own."""
    versions: dict[str, str]
    commit: str | None = None
    """Git commit of the code that trained it, if that was a checkout."""
    history: list[dict[str, Annotated[float, AllowInfNan()]]]
    """Metrics of every epoch; the loss of one that diverged is not finite."""
    best_epoch: int
    """The epoch, from 1, whose weights these are."""
    scores: dict[str, Annotated[float, AllowInfNan()]]
    """Validation metrics of that epoch."""
    run: str | None = None
    """Identity of its W&B run, which evaluations are logged to."""
    members: tuple[EnsembleMember, ...] = ()
    """Of an ensemble: its models. Model, normalisation, aggregation and recipe above are those of
    the first, there is no history, and the scores are the ensemble's."""
    adapted: dict[str, Any] | None = None
    """What was done to adapt it to audio without labels, see `inference.adapt`; None if nothing."""

    @property
    def parts(self) -> tuple[EnsembleMember, ...]:
        """The members of an ensemble, or the single model as its only one."""
        return self.members or (
            EnsembleMember(
                model=self.model,
                normalisation=self.normalisation,
                aggregation=self.windows.aggregation,
                recipe=self.recipe,
                data=self.data,
                best_epoch=self.best_epoch,
                scores=self.scores,
            ),
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """The instruments, in the order of the outputs."""
        return Vocabulary.of(self.instruments)

    @property
    def tracking(self) -> TrackingSettings:
        """How its training was logged.

        Raises:
            IrmasError: Its settings do not fit this version.
        """
        logged = {"tracking": self.recipe.get("tracking", {})}
        return build_recipe(logged, {}, "the model's recipe").tracking

    def threshold_array(self) -> np.ndarray:
        """Thresholds in the order of the outputs, float32, shape (instruments,), above 0.

        A fitted one may be 0, for an instrument that is best always predicted; but silence, which
        scores 0, has no instrument.
        """
        thresholds = np.array([self.thresholds[code] for code in self.instruments], np.float32)
        return np.maximum(thresholds, np.finfo(np.float32).tiny)


def pack_weights(network: nn.Module) -> bytes:
    """Return a network's weights in the safetensors format."""
    weights = network.state_dict()
    return safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in weights.items()})


def save_model(
    directory: str | os.PathLike[str],
    weights: bytes,
    description: ModelDescription,
    validation: Scores,
) -> None:
    """Write a model directory, a path or URL, which can be loaded only once this has returned."""
    with storage.write_atomically(storage.join(directory, "model.safetensors")) as stream:
        stream.write(weights)
    write_scores(storage.join(directory, VALIDATION_SCORES), validation)
    write_description(directory, description)


def write_description(directory: str | os.PathLike[str], description: ModelDescription) -> None:
    """Write ``model.json``."""
    storage.write_json(storage.join(directory, "model.json"), description.model_dump())


def read_description(directory: str | os.PathLike[str]) -> ModelDescription:
    """Read ``model.json``.

    Raises:
        IrmasError: There is no finished model, or it has another format.
    """
    path = storage.join(directory, "model.json")
    if not storage.exists(path):
        raise IrmasError(f"{directory} is not a model directory: it has no model.json")
    content = storage.read_json(path)
    try:
        return ModelDescription.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise IrmasError(f"{path} cannot be used: {field}: {first['msg']}") from error


def load_network(
    directory: str | os.PathLike[str], description: ModelDescription
) -> CNN | Ensemble:
    """Rebuild the network of a model directory, in evaluation mode, on the CPU.

    Raises:
        IrmasError: The weights are missing, damaged, or of another architecture.
    """
    path = storage.join(directory, "model.safetensors")
    return _network_of(description, storage.read_bytes(path), path)


def read_initial_model(directory: str | os.PathLike[str]) -> InitialModel:
    """Read a model directory that a training is to start from.

    Raises:
        IrmasError: As for `read_description` and `load_network`, or it is an ensemble.
    """
    description = read_description(directory)
    path = storage.join(directory, "model.safetensors")
    weights = storage.read_bytes(path)
    network = _network_of(description, weights, path)
    if isinstance(network, Ensemble):
        raise IrmasError(f"--init {directory} is an ensemble: start from one of its members")
    return InitialModel(
        name=str(directory),
        network=network,
        vocabulary=description.vocabulary,
        features=description.features,
        mean=description.normalisation.mean,
        std=description.normalisation.std,
        digest=weights_digest(weights),
        learnt=description.data,
    )


def weights_digest(weights: bytes) -> str:
    """Return the digest by which a model is recorded in what is made from it."""
    return hashlib.sha256(weights).hexdigest()[:16]


def _network_of(description: ModelDescription, weights: bytes, path: str) -> CNN | Ensemble:
    """Build a network with weights, which are those of the file ``path``."""
    bands, frames = description.features.bands, description.windows.frames
    members = [
        CNN(part.model, bands, frames, len(description.instruments)) for part in description.parts
    ]
    network = Ensemble(members) if description.members else members[0]
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise IrmasError(f"{path} is damaged or of another model: {reason}") from error
    return network.eval()

"""The model directory: a finished model with everything needed to use or to rebuild it.

``model.safetensors`` holds the weights, ``model.json`` everything else, ``validation.parquet`` the
scores of the validation mixtures, from which thresholds can be fitted again, and ``known.parquet``
digests of the audio that was learnt. A directory is complete once it has a ``model.json``, which is
therefore written last.
"""

import hashlib
import json
import os
import shlex

import safetensors.torch
from torch import nn

from irmas_dist import storage
from irmas_dist.errors import IrmasError, last_line
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.models.cnn import CNN
from irmas_dist.models.ensemble import Ensemble
from irmas_dist.storage.results import VALIDATION_FILE, WEIGHTS_FILE
from irmas_dist.training.initial_model import InitialModel
from irmas_dist.training.known_audio import KnownAudio, read_known, write_known
from irmas_dist.training.model_description import (
    ModelDescription,
    read_description,
    write_description,
)


def pack_weights(network: nn.Module) -> bytes:
    """Return a network's weights in the safetensors format."""
    weights = network.state_dict()
    return safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in weights.items()})


def save_model(
    directory: str | os.PathLike[str],
    weights: bytes,
    description: ModelDescription,
    validation: Scores | None,
    known: KnownAudio | None = None,
) -> ModelDescription:
    """Write a model directory, a path or URL, which can be loaded only once this has returned.

    Args:
        directory: Where to.
        weights: In the safetensors format.
        description: The content of ``model.json``.
        validation: Scores of the validation clips, if there are any.
        known: The audio that the model knows; None where that is not known.

    Returns:
        The description with the digest of the weights.
    """
    description = description.model_copy(update={"weights": weights_digest(weights)})
    with storage.write_atomically(storage.join(directory, WEIGHTS_FILE)) as stream:
        stream.write(weights)
    if validation is None:
        storage.remove(storage.join(directory, VALIDATION_FILE))  # of what was interrupted here
    else:
        write_scores(storage.join(directory, VALIDATION_FILE), validation)
    write_known(directory, known or KnownAudio())
    write_description(directory, description)
    return description


def read_validation_scores(
    directory: str | os.PathLike[str], purpose: str, *, of_other_windows: bool = False
) -> Scores:
    """Read a model's validation scores, which are there for a purpose.

    Raises:
        IrmasError: There are none; or, unless it is allowed, they are of other windows than the
            model's, as an interruption leaves them.
    """
    path = storage.join(directory, VALIDATION_FILE)
    scores = read_scores(path) if storage.exists(path) else None
    if scores is None or not scores.clip_ids:
        raise IrmasError(f"{directory} has no validation scores, {purpose}")
    if not of_other_windows and are_of_other_windows(scores, read_description(directory)):
        raise IrmasError(
            f"{path} holds scores of other windows than {directory}, as an interruption leaves it: "
            f"run irmas thresholds {shlex.quote(str(directory))} --features STORE again"
        )
    return scores


def are_of_other_windows(validation: Scores, description: ModelDescription) -> bool:
    """Return whether validation scores say that they are of another model than this is now.

    Those of an adapted model are the original's.
    """
    own = validation.scored_by in ("", scorer_identity(description))
    return not own and description.adapted is None


def load_network(
    directory: str | os.PathLike[str], description: ModelDescription
) -> CNN | Ensemble:
    """Rebuild the network of a model directory, in evaluation mode, on the CPU.

    Raises:
        IrmasError: The weights are missing, damaged, or others than those described.
    """
    path = storage.join(directory, WEIGHTS_FILE)
    return build_network(description, storage.read_bytes(path), path)


def read_initial_model(directory: str | os.PathLike[str]) -> InitialModel:
    """Read a model directory that a training is to start from.

    Raises:
        IrmasError: As for `read_description` and `load_network`, or it is an ensemble.
    """
    description = read_description(directory)
    path = storage.join(directory, WEIGHTS_FILE)
    weights = storage.read_bytes(path)
    network = build_network(description, weights, path)
    if isinstance(network, Ensemble):
        raise IrmasError(f"--init {directory} is an ensemble: start from one of its members")
    return InitialModel(
        name=str(directory),
        network=network,
        vocabulary=description.vocabulary,
        features=description.features,
        mean=description.normalisation.mean,
        std=description.normalisation.std,
        digest=description.weights,
        data=description.data,
        adapted_to=description.adapted_to,
        known=read_known(directory),
    )


def weights_digest(weights: bytes) -> str:
    """Return the digest by which a model is recorded in what is made from it."""
    return hashlib.sha256(weights).hexdigest()[:16]


def scorer_identity(description: ModelDescription) -> str:
    """Return the digest of all that a model's scores follow from; thresholds are not among it."""
    used = description.model_dump(
        mode="json", include={"instruments", "features", "normalisation", "windows", "weights"}
    )
    used["members"] = [
        one.model_dump(mode="json", include={"normalisation", "aggregation", "calibration"})
        for one in description.members
    ]
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:16]


def build_network(description: ModelDescription, weights: bytes, path: str) -> CNN | Ensemble:
    """Build a network, in evaluation mode, on the CPU.

    Args:
        description: The model.
        weights: In the safetensors format.
        path: Where they are from, for errors.

    Raises:
        IrmasError: The weights are damaged, or others than those described.
    """
    if weights_digest(weights) != description.weights:
        raise IrmasError(
            f"{path} is damaged, or is not of the model that model.json beside it describes: "
            "make the model again"
        )
    bands, frames = description.features.bands, description.windows.frames
    members = [
        CNN(part.model, bands, frames, len(description.instruments)) for part in description.parts
    ]
    network = Ensemble(members) if description.members else members[0]
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise IrmasError(
            f"{path} is of another architecture than model.json: {last_line(error)}; "
            "if another version of irmas made it, train it again"
        ) from error
    return network.eval()

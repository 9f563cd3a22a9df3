"""The stage `adapt`: a model directory that is adapted to unlabelled audio."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from irmas_dist import storage
from irmas_dist.config.adaptation import AdaptationSettings
from irmas_dist.corpus.manifest import TESTING
from irmas_dist.errors import AudioError, IrmasError, UsageError, without_password
from irmas_dist.features.clips import Clips, read_clips
from irmas_dist.features.logmel import log_mel
from irmas_dist.features.store import shard_names
from irmas_dist.inference.adapt import Adapted, adapt_network
from irmas_dist.inference.adaptability import require_adaptable
from irmas_dist.inference.audio_inputs import find_audio
from irmas_dist.inference.logit_matching import prevalence_weights
from irmas_dist.inference.predictor import Predictor, matching_store
from irmas_dist.models.cnn import CNN
from irmas_dist.storage.locks import lock_directory
from irmas_dist.storage.results import MODEL_FILE, STORE_FILE, holds, refuse_other_results
from irmas_dist.terminal import progress
from irmas_dist.training.known_audio import read_known
from irmas_dist.training.model_description import ModelDescription, read_description
from irmas_dist.training.model_directory import (
    load_network,
    pack_weights,
    read_validation_scores,
    save_model,
    weights_digest,
)


@dataclass(frozen=True)
class AdaptSummary:
    """An adapted model.

    Attributes:
        path: Its directory.
        clips: Number of clips that it is adapted to.
        notes: What the user should know, a line each.
    """

    path: str
    clips: int
    notes: list[str]


def adapt(
    model: str, to: str, out: str, settings: AdaptationSettings, part: str | None = None
) -> AdaptSummary:
    """Adapt a model and write it as a model directory of its own.

    Args:
        model: Model directory.
        to: A feature store, whose labels are not read, or audio: a file, or a folder of files.
        out: Directory for the adapted model, another than the model's.
        settings: How far it follows the audio.
        part: The part of the store; None for its only one, or else the testing clips.

    Raises:
        IrmasError: The model or the audio cannot be used, the directory is the model's or that
            of another result, or a part is given of audio.
    """
    if part is not None and not _is_store(to):
        raise UsageError(f"--part {part} is of a feature store, and {to} is none: leave it out")
    if storage.absolute(out) == storage.absolute(model):
        raise IrmasError(f"{out} is the model itself: name another directory")
    refuse_other_results(out, MODEL_FILE)
    with lock_directory(out):
        if holds(out, MODEL_FILE):
            _require_adaptation(out, read_description(model))
        adapted = load_adapted(model, to, settings, part)
        validation = read_validation_scores(model, "by which it would be adapted")
        weights = pack_weights(adapted.network)
        save_model(out, weights, adapted.description, validation, read_known(model))
    record = adapted.description.adapted
    assert record is not None
    return AdaptSummary(out, record.clips, adapted.notes)


def _require_adaptation(out: str, original: ModelDescription) -> None:
    """Refuse a directory whose model is not an adaptation of this one."""
    there = read_description(out)
    if there.adapted is None:
        raise IrmasError(f"{out} holds a model that is not adapted: name another directory")
    if (there.recipe, there.data, there.history) != (
        original.recipe, original.data, original.history,
    ):  # fmt: skip
        raise IrmasError(f"{out} holds an adaptation of another model: name another directory")


def adapted_predictor(
    model: str, to: str, settings: AdaptationSettings, part: str | None = None
) -> tuple[Predictor, list[str]]:
    """Return an adapted model that is not written, and its notes; the arguments are `adapt`'s."""
    adapted = load_adapted(model, to, settings, part)
    changed = {"weights": weights_digest(pack_weights(adapted.network))}
    description = adapted.description.model_copy(update=changed)
    return Predictor(description, adapted.network), adapted.notes


def load_adapted(
    model: str, to: str, settings: AdaptationSettings, part: str | None = None
) -> Adapted:
    """Load a model and adapt it; the arguments are `adapt`'s."""
    description = read_description(model)
    if description.members:
        raise IrmasError(f"{model} is an ensemble: adapt its members, and join what comes of it")
    require_adaptable(description, settings)
    network = load_network(model, description)
    assert isinstance(network, CNN)
    validation = read_validation_scores(model, "by which it would be adapted")
    prevalence_weights(validation, settings.prevalence)  # Refused before any audio is read.
    clips, notes = _clips_to_adapt_to(description, to, part)
    shown = without_password(to)
    adapted = adapt_network(description, network, validation, clips, shown, settings)
    return replace(adapted, notes=[*notes, *adapted.notes])


def _clips_to_adapt_to(
    description: ModelDescription, to: str, part: str | None
) -> tuple[Clips, list[str]]:
    """Return the spectrograms of what a model is adapted to, and what could not be used."""
    if _is_store(to):
        parts = list(matching_store(description, to).clips)
        default = parts[0] if len(parts) == 1 else TESTING
        return read_clips(to, part or default), []
    if not storage.is_url(to) and not Path(to).exists():
        raise IrmasError(f"{to}: no such file or folder")
    return _from_audio(description, list(find_audio([to])))


def _is_store(to: str) -> bool:
    """Return whether this is a feature store, finished or not, instead of audio."""
    return holds(to, STORE_FILE) or (Path(to).is_dir() and bool(shard_names(to)))


def _from_audio(description: ModelDescription, files: Sequence[str]) -> tuple[Clips, list[str]]:
    features = description.features
    mels, names, notes = [], [], []
    with progress("read", len(files), "files") as advance:
        for path in files:
            try:
                mels.append(log_mel(path, features).T)
                names.append(path)
            except AudioError as error:
                notes.append(f"left out: {path}: {error}")
            advance(1)
    if not mels:
        raise IrmasError(f"none of the {len(files)} files to adapt to can be used; {notes[0]}")
    lengths = np.array([len(mel) for mel in mels], np.int64)
    unlabelled = np.full((len(mels), len(description.vocabulary)), np.nan, np.float32)
    frames: Any = np.concatenate(mels)
    clips = Clips(
        frames=frames,
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        labels=unlabelled,
        clip_ids=names,
        parts=[TESTING] * len(mels),
        groups=names,
    )
    return clips, notes

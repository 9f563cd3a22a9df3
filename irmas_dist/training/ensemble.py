"""Ensembles: several models as one, whose scores are the mean of their calibrated scores.

Each member is calibrated by its own validation scores; thresholds are the means of the members'
own, calibrated in the same way. Where all members were validated on the same clips, the mean of
their scores is the ensemble's validation. Otherwise no clip is new to all of them.
"""

import functools
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist import storage
from irmas_dist.config.base import differences
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import FurtherStore, WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.platt import Platt, fit_platt
from irmas_dist.evaluation.scores import Scores
from irmas_dist.models.cnn import CNN
from irmas_dist.models.ensemble import Ensemble
from irmas_dist.storage.locks import lock_directory
from irmas_dist.storage.results import (
    BEGUN_FILE,
    MODEL_FILE,
    directory_name,
    holds,
    refuse_other_results,
)
from irmas_dist.terminal import say
from irmas_dist.training.begun import ADVICE, has_epochs, seed_directory
from irmas_dist.training.epoch_metrics import f1_at, validation_metrics
from irmas_dist.training.known_audio import read_known
from irmas_dist.training.model_description import (
    Calibration,
    EnsembleMember,
    ModelDescription,
    read_description,
)
from irmas_dist.training.model_directory import (
    load_network,
    pack_weights,
    read_validation_scores,
    save_model,
    weights_digest,
)
from irmas_dist.training.provenance import commit, versions
from irmas_dist.training.records import AdaptationRecord
from irmas_dist.training.train import require_same_training, train
from irmas_dist.training.validation_rule import for_validation

SEEDS = 2**32
"""Seeds are below this number."""


def train_seeds(
    recipe: Recipe,
    seeds: int,
    features: str,
    out: str,
    workers: WorkerSettings,
    address: str | None = None,
    further: Sequence[FurtherStore] = (),
    init: str | None = None,
) -> ModelDescription:
    """Train a recipe with several seeds, from its own on, and join the models.

    The models stay below ``out``, in ``seed-N``; the other arguments are those of `train`.
    The same call resumes an interrupted one, and one with more seeds adds those to an ensemble.

    Raises:
        IrmasError: As for `train`, or ``out`` holds another model.
    """
    refuse_other_results(out, MODEL_FILE)
    wanted = range(recipe.seed, recipe.seed + seeds)
    if wanted[-1] >= SEEDS:
        raise IrmasError(f"seed={recipe.seed}: {seeds} seeds from there on are more than there are")
    found = list[Any]()
    if holds(out, MODEL_FILE):
        found = [part.recipe.get("seed") for part in read_description(out).members]
        if not found or found != list(wanted)[: len(found)]:
            text = ", ".join(map(str, found))
            what = f"an ensemble of the seeds {text}" if found else "a single model"
            raise IrmasError(
                f"{out} holds {what}, not one of {wanted[0]} to {wanted[-1]}; {ADVICE}"
            )
    with lock_directory(out):
        if has_epochs(out):
            raise IrmasError(f"{out} holds an unfinished training of one seed; {ADVICE}")
        storage.remove(storage.join(out, BEGUN_FILE))
    models = {seed: seed_directory(out, seed) for seed in wanted}
    if gone := [models[seed] for seed in found if not holds(models[seed], MODEL_FILE)]:
        raise IrmasError(f"{out} holds an ensemble of models of which {gone[0]} is gone; {ADVICE}")
    recipes = {seed: recipe.model_copy(update={"seed": seed}) for seed in wanted}
    for seed, model in models.items():  # Before the first is trained.
        require_same_training(recipes[seed], features, model, further, init)
    for seed, model in models.items():
        if not holds(model, MODEL_FILE):
            say(f"training seed {seed} in {model}")
        name = f"{directory_name(out)}-seed-{seed}"
        train(recipes[seed], features, model, workers, address, further, init, name)
    if 0 < len(found) < seeds:
        storage.remove(storage.join(out, MODEL_FILE))
    return join_models(list(models.values()), out)


def join_models(models: Sequence[str], out: str) -> ModelDescription:
    """Write a model directory of several models with the same instruments, features and windows.

    Args:
        models: Model directories, at least two.
        out: The directory to write, a path or URL; with the same members it is left as it is.

    Raises:
        IrmasError: The models do not go together, one has no validation scores, or ``out`` holds
            another model.
    """
    refuse_other_results(out, MODEL_FILE)
    descriptions = [read_description(model) for model in models]
    _require_alike(models, descriptions)
    purpose = "by which it would be calibrated"
    validations = [read_validation_scores(model, purpose) for model in models]
    networks = [load_network(model, one) for model, one in zip(models, descriptions, strict=True)]
    members = [network for network in networks if isinstance(network, CNN)]
    weights = [pack_weights(member) for member in members]
    for number, one in enumerate(weights):
        if (same := weights.index(one)) != number:
            raise IrmasError(f"{models[number]} is the same model as {models[same]}")
    description, joint = _describe(descriptions, validations)
    packed = pack_weights(Ensemble(members))
    if holds(out, MODEL_FILE):
        there = read_description(out)
        if there.members != description.members or there.weights != weights_digest(packed):
            raise IrmasError(f"{out} holds another model; {ADVICE}")
        return there
    known = functools.reduce(operator.or_, map(read_known, models))
    with lock_directory(out):
        return save_model(out, packed, description, joint, known)


def _require_alike(models: Sequence[str], descriptions: Sequence[ModelDescription]) -> None:
    """Refuse models whose scores cannot be averaged, by name."""
    if len(models) < 2:
        raise IrmasError(f"an ensemble has two models or more: {' '.join(models)} is one")
    first = descriptions[0]
    for name, one in zip(models, descriptions, strict=True):
        if one.members:
            raise IrmasError(f"{name} is an ensemble itself: name its members instead")
        if tuple(one.instruments) != tuple(first.instruments):
            ours, theirs = (", ".join(each.instruments) for each in (one, first))
            raise IrmasError(f"{name} has other instruments than {models[0]}: {ours}, not {theirs}")
        windows = first.windows.model_copy(update={"aggregation": one.windows.aggregation})
        for what, differ in (
            ("features", differences(one.features, first.features)),
            ("windows", differences(one.windows, windows)),
        ):
            if differ:
                raise IrmasError(f"{name} has other {what} than {models[0]}: {differ}")
        if one.corpus.families != first.corpus.families:
            raise IrmasError(
                f"{name} has other families than {models[0]}: train them with the same "
                "corpus.families"
            )


def _describe(
    descriptions: Sequence[ModelDescription], validations: Sequence[Scores]
) -> tuple[ModelDescription, Scores | None]:
    """Describe an ensemble; return its validation scores, too, if there are any."""
    first = descriptions[0]
    calibrations = [fit_platt(one.labels, one.scores) for one in validations]
    parts = [
        part.model_copy(update={"calibration": Calibration(**one._asdict())})
        for description, one in zip(descriptions, calibrations, strict=True)
        for part in description.parts
    ]
    joint = _joint(descriptions, validations, calibrations)
    thresholds = _mean_thresholds(descriptions, calibrations)
    to = [part.adapted.to for part in parts if part.adapted]
    metrics: dict[str, float] = {}
    if joint is not None:
        rules = [part.aggregation for part in parts]
        rule = for_validation(first.threshold_settings, rules, first.recipe, first.data)
        stores = first.data.store_sizes
        metrics = validation_metrics(joint.labels, joint.scores, rule, joint.vocabulary, stores)
        metrics |= f1_at(joint.labels, joint.scores, thresholds, stores)
    return ModelDescription(
        **dict(first)
        | {
            "parameters": sum(one.parameters for one in descriptions),
            "thresholds": first.vocabulary.by_code(thresholds),
            "thresholds_from": f"means of the calibrated thresholds of {len(parts)} models",
            "versions": versions(),
            "commit": commit(),
            "history": [],
            "best_epoch": 0,
            "scores": metrics,
            "members": tuple(EnsembleMember(**dict(part)) for part in parts),
            "run": None,
            "adapted": AdaptationRecord(to=", ".join(dict.fromkeys(to))) if to else None,
        }
    ), joint


def _mean_thresholds(
    descriptions: Sequence[ModelDescription], calibrations: Sequence[Platt]
) -> npt.NDArray[np.float32]:
    """Return means of the calibrated thresholds of the models that ever predict an instrument.

    What one is adapted to never predict, as it is known not to play, the ensemble does not either.
    """
    each = [
        np.where(found < NEVER, calibrate(np.minimum(found, 1)), np.nan)
        for found, calibrate in zip(
            (one.threshold_array() for one in descriptions), calibrations, strict=True
        )
    ]
    decides = ~np.isnan(each)
    total = np.nansum(each, axis=0)
    means = total / np.maximum(decides.sum(axis=0), 1)
    chosen = np.where(decides.any(axis=0), means, NEVER).astype(np.float32)
    for one in descriptions:
        chosen[list(one.known_absent)] = NEVER
    return chosen


def _joint(
    descriptions: Sequence[ModelDescription],
    validations: Sequence[Scores],
    calibrations: Sequence[Platt],
) -> Scores | None:
    """Return the ensemble's validation scores, if all models were validated on the same clips.

    Those of an adapted model are of the model as it was, and say nothing of it.
    """
    first = validations[0]
    stores = [(one.data.store, one.data.validated_on) for one in descriptions]
    if any(one != stores[0] for one in stores) or any(one.adapted for one in descriptions):
        return None
    settings = [
        build_recipe({"validation": one.recipe.get("validation", {})}, {}, "a model's recipe")
        for one in descriptions
    ]
    for one, mixed in zip(validations, settings, strict=True):
        same = one.clip_ids == first.clip_ids and one.groups == first.groups
        if not (same and mixed == settings[0] and np.array_equal(one.labels, first.labels)):
            return None
    scores = [
        calibrate(one.scores) for one, calibrate in zip(validations, calibrations, strict=True)
    ]
    first = replace(first, scored_by="")
    return replace(first, scores=np.mean(scores, axis=0, dtype=np.float32))

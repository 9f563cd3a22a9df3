"""The choice of a trained model's thresholds, aggregation and window hop.

Thresholds are fitted to the scores of the validation mixtures. If the features are given, the
mixtures are scored again under every aggregation rule and with half the hop, and the candidate
that does best on mixtures it was not fitted to is chosen.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from irmas_dist import storage
from irmas_dist.config.decisions import AGGREGATION_RULES, ThresholdSettings
from irmas_dist.config.recipe import build_recipe
from irmas_dist.corpus.split import k_folds
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.arrays import Decisions
from irmas_dist.evaluation.objectives import objective_of
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.protocols import cross_validated
from irmas_dist.evaluation.scores import Scores, write_scores
from irmas_dist.evaluation.thresholds import averaged_thresholds
from irmas_dist.features import store
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import UNKNOWN
from irmas_dist.storage.locks import lock_directory
from irmas_dist.storage.results import VALIDATION_FILE
from irmas_dist.terminal import progress
from irmas_dist.training.epoch_metrics import f1_at, validation_metrics
from irmas_dist.training.load import load_training_data
from irmas_dist.training.model_description import (
    ModelDescription,
    ScoringWindows,
    read_description,
    write_description,
)
from irmas_dist.training.model_directory import (
    are_of_other_windows,
    load_network,
    read_validation_scores,
    scorer_identity,
)
from irmas_dist.training.validation import FOLDS, folds_of
from irmas_dist.training.validation_rule import threshold_origin


class Candidate(NamedTuple):
    """An aggregation and a hop, with thresholds fitted to the scores that they give.

    Attributes:
        windows: Aggregation and hop.
        scores: Of the validation mixtures.
        thresholds: Fitted to all of them, float32, shape (instruments,).
        fitted: The objective of the thresholds on the mixtures that they were fitted to.
        cross_validated: The objective when each fold is decided by thresholds fitted to the
            others, which share no recording with it; NaN if there are too few groups.
    """

    windows: ScoringWindows
    scores: Scores
    thresholds: np.ndarray
    fitted: float
    cross_validated: float


def search_decisions(
    model: str, settings: ThresholdSettings, features: str | None = None
) -> tuple[ModelDescription, list[Candidate]]:
    """Fit a model's thresholds again, and choose its aggregation and hop if features are given.

    Overwrites the model's ``model.json``, and ``validation.parquet`` if its scores change.

    Args:
        model: Model directory.
        settings: How thresholds are fitted.
        features: The feature store that the model was trained on.

    Returns:
        The new description, and the candidates, the chosen one first.

    Raises:
        IrmasError: There is no finished model, its validation scores are missing, or the features
            are not those it was trained on.
    """
    read_description(model)  # Refuse what is no model before it is locked.
    with lock_directory(model):
        return _search(model, settings, features)


def _search(
    model: str, settings: ThresholdSettings, features: str | None
) -> tuple[ModelDescription, list[Candidate]]:
    description = read_description(model)
    again = features is not None
    _require_fittable(model, description, again)
    purpose = "to which thresholds would be fitted"
    fitted_to = read_validation_scores(model, purpose, of_other_windows=again)
    stale = are_of_other_windows(fitted_to, description)
    scored = {description.windows: fitted_to}
    if features is not None:
        scored |= _score_again(model, description, fitted_to, features, stale)
    rules = {
        windows: description.model_copy(
            update={"windows": windows, "thresholds_fitted": settings}
        ).validation_settings
        for windows in scored
    }
    folds = _folds(description, fitted_to)
    candidates = [
        _fit(windows, scores, rules[windows], folds) for windows, scores in scored.items()
    ]
    # Values of the clips that thresholds were fitted to are no reason to change anything. The sort
    # is stable: the model's present aggregation and hop, which come first, win ties.
    if not any(math.isnan(one.cross_validated) for one in candidates):
        candidates.sort(key=lambda one: one.cross_validated, reverse=True)
    best = candidates[0]
    labels, values, sizes = best.scores.labels, best.scores.scores, description.data.store_sizes
    figures = f1_at(labels, values, best.thresholds, sizes)
    rescored = stale or best.windows != description.windows
    # All validation figures in model.json are of the old scores then.
    if rescored:
        metrics = validation_metrics(labels, values, settings, description.vocabulary, sizes)
        figures = metrics | figures
    of_recipe = description.model_copy(update={"thresholds_fitted": None})
    changed = description.model_copy(
        update={
            "windows": best.windows,
            "thresholds": description.vocabulary.by_code(best.thresholds),
            "thresholds_from": threshold_origin(
                rules[best.windows], len(best.scores.clip_ids), description.recipe, description.data
            ),
            "thresholds_fitted": None if settings == of_recipe.threshold_settings else settings,
            "scores": description.scores | figures,
        }
    )
    if rescored:
        path = storage.join(model, VALIDATION_FILE)
        write_scores(path, replace(best.scores, scored_by=scorer_identity(changed)))
    write_description(model, changed)
    return changed, candidates


def _require_fittable(model: str, description: ModelDescription, score_again: bool) -> None:
    """Refuse a model without validation scores of its own, or whose clips cannot be scored again.

    Raises:
        IrmasError: It is one.
    """
    if description.adapted is not None and description.members:
        raise IrmasError(
            f"{model} joins adapted models: fit the thresholds of the originals, adapt these "
            "again, and join what comes of it"
        )
    if description.adapted is not None:
        raise IrmasError(
            f"{model} is adapted, and its validation scores are the original's: fit that one's "
            "thresholds, and adapt it again"
        )
    if description.members and not storage.exists(storage.join(model, VALIDATION_FILE)):
        raise IrmasError(f"{model} has no validation scores: its members were validated on other "
                         "clips each, and no clip is new to all of them")  # fmt: skip
    if description.data.validated_on and score_again:
        raise IrmasError(f"{model} was validated on clips of a store of their own, not of the one "
                         "it was trained on: leave --features out")  # fmt: skip
    if description.members and score_again:
        raise IrmasError(f"{model} is an ensemble, whose aggregation and hop are its members' own: "
                         "leave --features out")  # fmt: skip


def _score_again(
    model: str, description: ModelDescription, known: Scores, features: str, stale: bool
) -> dict[ScoringWindows, Scores]:
    """Score the validation mixtures with the other aggregation rules and half the hop.

    Args:
        model: Model directory.
        description: Of the model.
        known: Scores of these mixtures.
        features: The store that they are of.
        stale: Whether to score with its own windows, too.
    """
    identity, trained_on = store.read_info(features).identity, description.data.store
    if identity != trained_on:
        raise IrmasError(
            f"{features} ({identity}) is not what {model} was trained on ({trained_on}): "
            "clips, labels, groups or settings differ"
        )
    recipe = build_recipe(description.recipe, {}, f"the recipe of {model}")
    clips = load_training_data(features, recipe.validation, recipe.ingest).threshold_clips()
    network = load_network(model, description)
    hop = description.windows.hop_frames
    every = [
        description.windows.model_copy(update={"aggregation": rule, "hop_frames": frames})
        for frames in dict.fromkeys((hop, max(hop // 2, 1)))
        for rule in AGGREGATION_RULES
    ]
    others = [windows for windows in every if stale or windows != description.windows]
    found: dict[ScoringWindows, Scores] = {}
    with progress("score", len(others), "combinations") as advance:
        for windows in others:
            predictor = Predictor(description.model_copy(update={"windows": windows}), network)
            found[windows] = replace(known, scores=predictor.score_clips(clips))
            advance(1)
    return found


def _folds(description: ModelDescription, scores: Scores) -> npt.NDArray[np.int64] | None:
    """Return the fold of each validation clip; None where there are too few groups for folds.

    Mixtures have folds of their own, whose clips are mixed with none of another fold.
    """
    mixed = description.recipe.get("validation", {}).get("mixed", True)
    if mixed and not description.data.validated_on:
        return folds_of(scores.groups)
    try:
        return k_folds(scores.groups, scores.labels == 1, FOLDS, seed=0)
    except IrmasError:
        return None


def _fit(
    windows: ScoringWindows,
    scores: Scores,
    settings: ThresholdSettings,
    folds: npt.NDArray[np.int64] | None,
) -> Candidate:
    labels, values = scores.labels, scores.scores

    def objective(decisions: Decisions) -> float:
        decided = (decisions == 1) & (labels != UNKNOWN)
        return float(objective_of(settings)(labels == 1, decided[None])[0])

    thresholds = averaged_thresholds(labels, values, settings)
    held_out = math.nan
    if folds is not None and len(np.unique(folds)) > 1:
        held_out = objective(cross_validated(labels, values, folds, settings))
    return Candidate(windows, scores, thresholds, objective(decide(values, thresholds)), held_out)

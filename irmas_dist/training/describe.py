"""The description of a finished training: its best epoch, with thresholds."""

from dataclasses import replace
from typing import Any

import numpy as np

from irmas_dist.evaluation.scores import Scores
from irmas_dist.evaluation.thresholds import averaged_thresholds
from irmas_dist.features.clips import joined
from irmas_dist.instruments import hard_labels
from irmas_dist.models.cnn import parameter_count
from irmas_dist.training.epoch_metrics import f1_at
from irmas_dist.training.learner import Learner
from irmas_dist.training.model_description import (
    ModelDescription,
    Normalisation,
    ScoringWindows,
)
from irmas_dist.training.provenance import commit, versions
from irmas_dist.training.validation_rule import for_validation, threshold_origin


def describe(learner: Learner, recipe: dict[str, Any]) -> tuple[ModelDescription, Scores]:
    """Load the best epoch's weights into the network and describe it.

    Thresholds are fitted to the scores of `TrainingData.threshold_clips`, of which micro and macro
    F1 are then stated. Every worker must call this, as each scores its share. ``recipe``, all
    settings of the run, is recorded.

    Returns:
        The description, and these scores.
    """
    learner.restore_best()
    data, record = learner.data, learner.data.record
    scored = [
        (replace(clips, frames=clips.frames[:0]), learner.score(clips))
        for clips in data.threshold_clips_in_parts()
    ]
    clips, values = joined([one for one, _ in scored]), np.concatenate([one for _, one in scored])
    labels = hard_labels(clips.labels)
    vocabulary = data.store.vocabulary
    aggregation = learner.settings.window.aggregation
    rule = for_validation(learner.settings.thresholds, [aggregation], recipe, record)
    thresholds = averaged_thresholds(labels, values, rule)
    network = learner.network
    mean, std = data.normalisation
    description = ModelDescription(
        instruments=dict(zip(vocabulary.codes, vocabulary.names, strict=True)),
        features=data.store.settings,
        normalisation=Normalisation(mean=tuple(mean), std=tuple(std)),
        model=network.settings,
        parameters=parameter_count(network),
        windows=ScoringWindows(
            frames=learner.frames,
            hop_frames=learner.settings.window.hop_frames(data.store.settings),
            aggregation=aggregation,
        ),
        thresholds=vocabulary.by_code(thresholds),
        thresholds_from=threshold_origin(rule, len(clips), recipe, record),
        recipe=recipe,
        data=record,
        versions=versions(),
        commit=commit(),
        history=learner.history,
        best_epoch=learner.best_epoch,
        scores=learner.history[learner.best_epoch - 1]
        | f1_at(labels, values, thresholds, record.store_sizes),
    )
    scores = Scores(
        clip_ids=clips.clip_ids,
        parts=clips.parts,
        groups=clips.groups,
        labels=labels,
        scores=values,
        vocabulary=vocabulary,
    )
    return description, scores

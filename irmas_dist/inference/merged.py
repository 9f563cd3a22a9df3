"""A model on clips of another vocabulary, or at another level of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from irmas_dist.evaluation.arrays import Thresholds
from irmas_dist.evaluation.merging import Merge, require_known, shared
from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.evaluation.scores import Scores
from irmas_dist.evaluation.thresholds import averaged_thresholds
from irmas_dist.features.clips import read_clips
from irmas_dist.inference.logit_matching import prevalence_weights
from irmas_dist.inference.predictor import Predictor, matching_store
from irmas_dist.instruments import hard_labels
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.model_directory import read_validation_scores


@dataclass(frozen=True)
class MergedStore:
    """A feature store of any instruments, under new codes.

    Attributes:
        location: The store.
        ours: How the codes that model and store both have follow from the model's instruments.
        theirs: How they follow from the store's.
        notes: What is left out.
    """

    location: str
    ours: Merge
    theirs: Merge
    notes: list[str]

    @classmethod
    def of(
        cls, description: ModelDescription, location: str, mapping: Mapping[str, str]
    ) -> "MergedStore":
        """Return a store under new codes, from a mapping of the model's codes and its own.

        Raises:
            IrmasError: The store has other feature settings than the model, the mapping names an
                instrument of neither, or they have none in common.
        """
        info = matching_store(description, location)
        require_known(mapping, description.vocabulary, info.vocabulary)
        ours, theirs, notes = shared(description.vocabulary, info.vocabulary, mapping, location)
        return cls(location, ours.without(description.known_absent), theirs, notes)

    def score(self, predictor: Predictor, part: str) -> Scores:
        """Score one part of the store."""
        clips = read_clips(self.location, part)
        return Scores(
            clips.clip_ids, clips.parts, clips.groups,
            labels=self.theirs.labels(hard_labels(clips.labels)),
            scores=self.ours.scores(predictor.score_clips(clips)).astype(np.float32),
            vocabulary=self.ours.vocabulary,
        )  # fmt: skip


def _prevalence(description: ModelDescription) -> dict[str, float]:
    """Return the prevalences that a model was adapted with."""
    return description.adapted.prevalence if description.adapted else {}


def merged_thresholds(
    model: str, description: ModelDescription, merge: Merge
) -> tuple[Thresholds, str]:
    """Return the thresholds of new codes, and what merged ones were chosen on.

    Codes of one instrument keep the model's threshold. Others have one that is fitted to the
    model's scores of its validation clips, as frequent as they are known to be.

    Raises:
        IrmasError: These scores are missing.
    """
    own = description.threshold_array()
    never = description.known_absent
    kept = [
        NEVER if never.issuperset(columns) else own[columns[0]] if len(columns) == 1 else np.nan
        for columns in merge.members
    ]
    if not (several := [c for c, k in zip(merge.vocabulary.codes, kept, strict=True) if k != k]):
        return np.array(kept, np.float32), ""
    settings = description.validation_settings
    purpose = f"to which thresholds of {', '.join(several)} would be fitted"
    if description.members:
        purpose += "; evaluate its members one by one"
    scores, prevalence = read_validation_scores(model, purpose), _prevalence(description)
    weights = prevalence_weights(scores, prevalence) if prevalence else None
    validation = merge(scores)
    fitted = averaged_thresholds(validation.labels, validation.scores, settings, weights)
    origin = f"; of {', '.join(several)}: fitted to the model's scores of its validation clips"
    chosen = np.where(np.isnan(kept), fitted, kept).astype(np.float32)
    return np.maximum(chosen, np.finfo(np.float32).tiny), origin  # Silence scores 0.

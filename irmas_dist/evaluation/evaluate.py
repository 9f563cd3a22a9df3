"""Evaluation of scores: figures by every protocol that is possible, beside baselines."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.config.decisions import FOR_SCORES, Protocol, ThresholdSettings
from irmas_dist.corpus.groups import split_fold
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation import baselines
from irmas_dist.evaluation.arrays import Decisions, Thresholds
from irmas_dist.evaluation.bootstrap import draw_songs
from irmas_dist.evaluation.csv_scores import open_scores
from irmas_dist.evaluation.merging import Merge
from irmas_dist.evaluation.mixtures import mixed_scores
from irmas_dist.evaluation.protocols import FIXED_THRESHOLD, Result, apply_protocols, decide_by
from irmas_dist.evaluation.published import benchmark_of
from irmas_dist.evaluation.scores import Scores
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import UNKNOWN


@dataclass(frozen=True)
class Evaluation:
    """Figures of scores, by each protocol.

    Attributes:
        scores: Scores and labels of the clips.
        results: By protocol, the headline first.
        instruments: As from `protocols.Result.rows_by_instrument`, of the headline.
        thresholds: Those of ``validation`` or ``adapted``, shape (instruments,); None where there
            are none.
        thresholds_from: What these were chosen on.
        settings: How thresholds were fitted for the other protocols.
        baselines: Micro and macro F1 of answers that use no audio.
        notes: What could not be computed, or figures do not show, a line each.
        path: The scores file.
    """

    scores: Scores
    results: dict[Protocol, Result]
    instruments: list[dict[str, Any]]
    thresholds: Thresholds | None
    thresholds_from: str
    settings: ThresholdSettings
    baselines: dict[str, dict[str, float]]
    notes: list[str]
    path: str

    @property
    def headline(self) -> Result:
        """The result of the most honest protocol."""
        return next(iter(self.results.values()))

    @property
    def partly_known(self) -> bool:
        """Whether some labels are unknown."""
        return bool((self.scores.labels == UNKNOWN).any())

    @property
    def metrics(self) -> dict[str, float]:
        """The headline's figures."""
        return self.headline.metrics


def evaluate_scores(
    scores: Scores,
    path: str,
    thresholds: Thresholds | None = None,
    thresholds_from: str = "",
    settings: ThresholdSettings = FOR_SCORES,
    chosen: Protocol = "validation",
) -> Evaluation:
    """Evaluate scores by every protocol that is possible.

    Args:
        scores: Scores and labels of the clips.
        path: The file of the scores.
        thresholds: Chosen without these clips; None leaves out the protocol ``validation``.
        thresholds_from: What they were chosen on.
        settings: How thresholds are fitted for the other protocols.
        chosen: The protocol of ``thresholds``: ``validation`` or ``adapted``.

    Raises:
        IrmasError: There are no clips, or nothing is known of any.
    """
    if not scores.clip_ids:
        raise IrmasError(f"{path} contains no clips to evaluate")
    if not (scores.labels != UNKNOWN).any():
        raise IrmasError(f"{path}: of no clip is it known what plays or does not")
    decisions: dict[Protocol, Decisions] = {}
    notes = []
    if thresholds is not None:
        decisions[chosen] = decide_by(chosen, scores, thresholds, settings)
    benchmark = benchmark_of(scores.vocabulary)
    if benchmark and benchmark.fixed:
        decisions["fixed"] = decide_by("fixed", scores, None, settings)
    try:
        decisions["cross-validated"] = decide_by("cross-validated", scores, None, settings)
    except IrmasError as error:
        notes.append(str(error))
    decisions["oracle"] = decide_by("oracle", scores, None, settings)
    results = apply_protocols(scores, decisions, draw_songs(scores.groups))
    if len(set(scores.groups)) == 1:
        notes.append("all clips are of one song: figures have no intervals")
    known = (scores.labels != UNKNOWN).any(axis=0)
    plays, lacks = ((scores.labels == label).any(axis=0) for label in (1, 0))
    if unknown := _codes(scores, ~known):
        notes.append(f"known in no clip: {', '.join(unknown)}; left out of means over instruments")
    if absent := _codes(scores, known & ~plays):
        notes.append(
            f"known to play in no clip: {', '.join(absent)}; precision, recall, F1 and average "
            "precision of these are 0, and count as such in the means over instruments"
        )
    if always := _codes(scores, known & ~lacks):
        notes.append(
            f"known to be absent from no clip: {', '.join(always)}; average precision of these is "
            "1 whatever the scores, precision of any that is predicted too; both count in the means"
        )
    if scores.adapted_to:
        notes.append(f"the scores are of a model that was adapted to {scores.adapted_to}")
    notes.extend(scores.notes)
    headline = next(iter(results.values()))
    shown = thresholds
    if headline.protocol == "fixed":
        shown = np.full(len(scores.vocabulary), FIXED_THRESHOLD, np.float32)
    if headline.protocol == "oracle":
        shown = fit_thresholds(scores.labels, scores.scores, settings)
    return Evaluation(
        scores=scores,
        results=results,
        instruments=headline.rows_by_instrument(scores.vocabulary, shown),
        thresholds=thresholds,
        thresholds_from=thresholds_from,
        settings=settings,
        baselines=baselines.trivial(scores.labels),
        notes=notes,
        path=path,
    )


def _codes(scores: Scores, chosen: npt.NDArray[np.bool_]) -> list[str]:
    """Return the codes of some instruments, shape (instruments,)."""
    return [scores.vocabulary.codes[column] for column in np.flatnonzero(chosen)]


def thresholds_from(
    location: str,
    labels: str | None,
    settings: ThresholdSettings,
    evaluated: Scores,
    merge: Merge | None = None,
) -> tuple[Thresholds, str]:
    """Fit thresholds to held-out scores; return them, and what they were fitted to.

    Clips known to have one instrument each are mixed first (`mixtures`): thresholds that suit them
    do not suit clips of several. With a merge, thresholds are those of its new codes.

    Args:
        location: The held-out scores, as `open_scores` takes them.
        labels: Theirs, the same.
        settings: How thresholds are fitted.
        evaluated: The scores that the thresholds are for, not merged.
        merge: How these are merged.

    Raises:
        IrmasError: The scores cannot be used, are of other instruments, or share a clip or a song
            with those to evaluate.
    """
    scores = open_scores(location, labels, evaluated.vocabulary)
    if scores.vocabulary != evaluated.vocabulary:
        raise IrmasError(f"{location} has scores of other instruments than the scores to evaluate")
    # Validation mixtures have the group of their first source after the number of their fold.
    ours, theirs = ({split_fold(group)[1] for group in one.groups} for one in (evaluated, scores))
    for shared, others in (
        (set(evaluated.clip_ids) & set(scores.clip_ids), "clips"),
        (ours & theirs, "songs, or give two songs of one name different groups"),
    ):
        if shared:
            raise IrmasError(
                f"{location} has {min(shared)!r}, and so have the scores to evaluate: fit "
                f"thresholds to other {others}"
            )
    clips = f"{len(scores.clip_ids):,} clips of {location}"
    if ((scores.labels == 1).sum(axis=1) == 1).all() and not (scores.labels == UNKNOWN).any():
        try:
            scores = mixed_scores(scores)
        except ValueError as error:
            raise IrmasError(f"{location}: {error}") from error
        clips = f"mixed scores of the {clips}"
    if merge:
        scores = merge(scores)
    return fit_thresholds(scores.labels, scores.scores, settings), clips

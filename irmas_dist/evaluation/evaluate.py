"""From scores to figures: by every protocol that they allow, beside baselines."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.corpus.split import k_folds
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation import baselines, metrics, protocols
from irmas_dist.evaluation.arrays import Decisions
from irmas_dist.evaluation.bootstrap import draw_songs
from irmas_dist.evaluation.csv_scores import open_scores
from irmas_dist.evaluation.mixtures import mixed_scores
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.protocols import Protocol, Result
from irmas_dist.evaluation.scores import Scores
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import Vocabulary

FOLDS = 5
"""Folds of the ``cross-validated`` protocol."""

Thresholds = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """How scores do, by each protocol.

    Attributes:
        scores: Scores and labels of the clips.
        results: By protocol, the headline first.
        instruments: Rows of `metrics.per_instrument` for the headline, with ``f1_low`` and
            ``f1_high``, and ``threshold``: None where it differs from fold to fold.
        thresholds: Those of ``validation``, shape (instruments,); None where there are none.
        thresholds_from: On what these were chosen.
        baselines: Of answers that no music is needed for: micro and macro F1.
        notes: What could not be done, and why.
        path: The scores file.
    """

    scores: Scores
    results: dict[Protocol, Result]
    instruments: list[dict[str, Any]]
    thresholds: Thresholds | None
    thresholds_from: str
    baselines: dict[str, dict[str, float]]
    notes: list[str]
    path: str

    @property
    def headline(self) -> Result:
        """The most honest result that there is."""
        return next(iter(self.results.values()))

    @property
    def metrics(self) -> dict[str, float]:
        """The headline's figures."""
        return self.headline.metrics


def evaluate_scores(
    scores: Scores,
    path: str,
    thresholds: Thresholds | None = None,
    thresholds_from: str = "",
    settings: ThresholdSettings | None = None,
) -> Evaluation:
    """Judge scores by every protocol that is possible.

    Args:
        scores: Scores and labels of the clips.
        path: The file that they are in.
        thresholds: Chosen without these clips; None leaves out the protocol ``validation``.
        thresholds_from: On what they were chosen.
        settings: How thresholds are fitted for the other protocols.

    Raises:
        IrmasError: There are no clips.
    """
    if not scores.clip_ids:
        raise IrmasError(f"{path} holds no clips to judge")
    settings = settings or ThresholdSettings()
    draws = draw_songs(scores.groups)
    decisions: dict[Protocol, Decisions] = {}
    notes = []
    if thresholds is not None:
        decisions["validation"] = decide(scores.scores, thresholds)
    try:
        folds = k_folds(scores.groups, scores.labels, FOLDS, 0, scores.vocabulary)
    except IrmasError as error:
        notes.append(f"not cross-validated: {error}")
    else:
        decisions["cross-validated"] = protocols.cross_validated(
            scores.labels, scores.scores, folds, settings
        )
    fitted = fit_thresholds(scores.labels, scores.scores, settings)
    decisions["oracle"] = decide(scores.scores, fitted)
    results = protocols.apply_protocols(scores, decisions, draws)
    headline = next(iter(results.values()))
    shown = {"validation": thresholds, "oracle": fitted}.get(headline.protocol)
    return Evaluation(
        scores=scores,
        results=results,
        instruments=_rows(scores, headline, shown),
        thresholds=thresholds,
        thresholds_from=thresholds_from,
        baselines=baselines.trivial(scores.labels),
        notes=notes,
        path=path,
    )


def _rows(scores: Scores, result: Result, thresholds: Thresholds | None) -> list[dict[str, Any]]:
    rows = metrics.per_instrument(scores.labels, scores.scores, result.decisions, scores.vocabulary)
    return [
        row
        | {"f1_low": low, "f1_high": high}
        | {"threshold": None if thresholds is None else float(thresholds[i])}
        for i, (row, (low, high)) in enumerate(zip(rows, result.instrument_intervals, strict=True))
    ]


def thresholds_from(
    location: str, labels: str | None, settings: ThresholdSettings, vocabulary: Vocabulary
) -> tuple[Thresholds, str]:
    """Fit thresholds to held-out scores; return them, and on what they were fitted.

    Clips of one instrument each are mixed first (`mixtures`): thresholds that suit them do not
    suit clips of several.

    Raises:
        IrmasError: The scores cannot be used, or are of other instruments.
    """
    scores = open_scores(location, labels, vocabulary)
    if scores.vocabulary != vocabulary:
        raise IrmasError(f"{location} holds scores of other instruments than those to be judged")
    clips = f"{len(scores.clip_ids):,} clips of {location}"
    if (scores.labels.sum(axis=1) == 1).all():
        try:
            scores = mixed_scores(scores)
        except ValueError as error:
            raise IrmasError(f"{location}: {error}") from error
        clips = f"mixed scores of the {clips}"
    return fit_thresholds(scores.labels, scores.scores, settings), clips

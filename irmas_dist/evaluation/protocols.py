"""Five ways to choose thresholds, whose figures must not be confused.

``validation``
    Thresholds chosen without any test data: the headline, and the only figure that predicts
    how the model will do on unknown music.
``adapted``
    Chosen without test labels as well, by a model that is adapted to unlabelled audio, as a rule
    the test's own.
``fixed``
    One threshold for all instruments, `FIXED_THRESHOLD`, chosen before any data was seen. Shown
    where a data set's own baseline decides so.
``cross-validated``
    The test's songs are dealt into folds, and each fold is decided by thresholds fitted to the
    others. No clip is decided by its own label, but the thresholds are adapted to the test set.
``oracle``
    Thresholds fitted to the same clips that they are evaluated on: an upper bound, and only to
    compare with works that chose theirs on the test set.

Every figure that is printed, written or drawn has the name of its protocol beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.config.decisions import Protocol, ThresholdSettings
from irmas_dist.corpus.split import k_folds
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation import metrics
from irmas_dist.evaluation.arrays import Decisions, Labels, ScoreArray, Thresholds
from irmas_dist.evaluation.bootstrap import Draws, Interval, interval
from irmas_dist.evaluation.metrics import Figures
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.scores import Scores
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import Vocabulary

MEANING: dict[Protocol, str] = {
    "validation": "thresholds chosen before the test",
    "adapted": "thresholds chosen without test labels, by a model adapted to unlabelled audio",
    "fixed": "0.5 for every instrument, whatever the data",
    "cross-validated": "thresholds fitted to the test's other songs",
    "oracle": "thresholds fitted to the test itself",
}
"""What each protocol is, in few words, in the order in which they are shown."""

FIXED_THRESHOLD = 0.5
"""That of the ``fixed`` protocol."""

CHOSEN_BEFORE: tuple[Protocol, ...] = ("validation", "adapted")
"""The protocols whose thresholds are the model's own."""

FITTED: tuple[Protocol, ...] = ("cross-validated", "oracle")
"""The protocols whose thresholds are fitted to the evaluated clips, as settings say."""

FOLDS = 5
"""Folds of the ``cross-validated`` protocol."""


@dataclass(frozen=True)
class Result:
    """Figures of the decisions of one protocol.

    Attributes:
        protocol: How the thresholds were chosen.
        decisions: Those of all clips.
        figures: Of these decisions and of the scores, on every draw.
        intervals: The 95 % interval of each overall figure, over songs; empty of one song.
        instrument_intervals: Those of each instrument's F1; None of one song.
    """

    protocol: Protocol
    decisions: Decisions
    figures: Figures
    intervals: dict[str, Interval]
    instrument_intervals: list[Interval | None]

    @property
    def metrics(self) -> dict[str, float]:
        """The overall figures, as from `metrics.overall_metrics`."""
        return metrics.first_draw(self.figures.overall)

    def rows_by_instrument(
        self, vocabulary: Vocabulary, thresholds: Thresholds | None
    ) -> list[dict[str, Any]]:
        """Return `metrics.rows_by_instrument` with ``f1_low``, ``f1_high`` and ``threshold``.

        Args:
            vocabulary: The instruments, in the order of the columns.
            thresholds: Shape (instruments,); None where they differ from fold to fold.
        """
        rows = metrics.rows_by_instrument(self.figures.instruments, vocabulary)
        each = [None] * len(rows) if thresholds is None else thresholds.tolist()
        return [
            {
                **row,
                "f1_low": span.low if span and row["known"] else None,
                "f1_high": span.high if span and row["known"] else None,
                "threshold": threshold,
            }
            for row, span, threshold in zip(rows, self.instrument_intervals, each, strict=True)
        ]


def apply_protocols(
    scores: Scores, decisions: Mapping[Protocol, Decisions], draws: Draws
) -> dict[Protocol, Result]:
    """Evaluate the decisions of each protocol, with intervals over draws of the clips' groups."""

    def intervals(figures: Figures) -> dict[str, Interval]:
        spans = {name: interval(values, draws) for name, values in figures.overall.items()}
        return {name: span for name, span in spans.items() if span}

    of_scores = metrics.score_figures(scores.labels, scores.scores, draws)
    score_intervals = intervals(of_scores)
    results: dict[Protocol, Result] = {}
    for protocol, decided in decisions.items():
        figures = metrics.decision_figures(scores.labels, decided, draws)
        results[protocol] = Result(
            protocol=protocol,
            decisions=decided,
            figures=Figures(
                figures.overall | of_scores.overall, figures.instruments | of_scores.instruments
            ),
            intervals=intervals(figures) | score_intervals,
            instrument_intervals=[interval(f1, draws) for f1 in figures.instruments["f1"].T],
        )
    return results


def decide_by(
    protocol: Protocol,
    scores: Scores,
    thresholds: Thresholds | None,
    settings: ThresholdSettings,
) -> Decisions:
    """Decide clips by the given thresholds, by 0.5, or by fitted ones.

    Raises:
        IrmasError: There are too few songs for cross-validation, or none has an instrument.
    """
    match protocol:
        case "validation" | "adapted":
            assert thresholds is not None
            return decide(scores.scores, thresholds)
        case "fixed":
            return decide(scores.scores, FIXED_THRESHOLD)
        case "cross-validated":
            try:
                return _decide_by_other_songs(scores, settings)
            except IrmasError as error:
                raise IrmasError(f"thresholds cannot be cross-validated: {error}") from error
        case "oracle":
            fitted = fit_thresholds(scores.labels, scores.scores, settings)
            return decide(scores.scores, fitted)


def _decide_by_other_songs(scores: Scores, settings: ThresholdSettings) -> Decisions:
    """Decide the songs of each fold by thresholds fitted to the others.

    An instrument whose threshold depends on its own labels alone has folds that do, too: what is
    known of other instruments changes nothing about it.

    Raises:
        IrmasError: No clip has an instrument, or one has fewer songs than there are folds.
    """
    positive, codes = scores.labels == 1, scores.vocabulary.codes
    together = [list(range(len(codes)))]
    if settings.rule == "per_instrument" and settings.objective == "macro_f1":
        together = [[i] for i in np.flatnonzero(positive.any(axis=0)).tolist()] or together
    decisions = np.zeros(scores.labels.shape, np.uint8)
    for columns in together:
        vocabulary = Vocabulary.of({codes[i]: codes[i] for i in columns})
        folds = k_folds(scores.groups, positive[:, columns], FOLDS, 0, vocabulary)
        decisions[:, columns] = cross_validated(
            scores.labels[:, columns], scores.scores[:, columns], folds, settings
        )
    return decisions


def cross_validated(
    labels: Labels, scores: ScoreArray, folds: npt.NDArray[np.int64], settings: ThresholdSettings
) -> Decisions:
    """Decide each fold by thresholds that are fitted to the others.

    On a validation set, this measures thresholds that are fitted to all of it. ``folds``, shape
    (clips,), has two or more folds, and the clips of one song in one, as from `split.k_folds`.
    """
    decisions = np.zeros(labels.shape, np.uint8)
    for fold in np.unique(folds):
        held_out = folds == fold
        thresholds = fit_thresholds(labels[~held_out], scores[~held_out], settings)
        decisions[held_out] = decide(scores[held_out], thresholds)
    return decisions

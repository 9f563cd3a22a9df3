"""Labels that nobody knows count neither for nor against: figures are those of what is known."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation import metrics
from irmas_dist.evaluation.bootstrap import draw_songs
from irmas_dist.evaluation.calibration import reliability
from irmas_dist.evaluation.confusion import confusion
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import UNKNOWN, Vocabulary
from tests.evaluation.test_metrics import (
    CLOSE,
    ap_by_scikit_learn,
    auc_by_scikit_learn,
    ece_by_scikit_learn,
    labelled_scores,
)

lrap = sklearn.metrics.label_ranking_average_precision_score
coverage = sklearn.metrics.coverage_error
VOCABULARY = Vocabulary.of({code: code for code in "abcde"})


@st.composite
def partly_known(draw):
    """Labels of which some are unknown, their scores, and the labels with all of them known."""
    whole, scores = draw(labelled_scores())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    known = rng.random(whole.shape) < draw(st.sampled_from([0.2, 0.6, 1.0]))
    return np.where(known, whole, UNKNOWN).astype(np.int8), scores, whole


@settings(max_examples=100)
@given(partly_known(), st.sampled_from([0.3, 0.5, 1.1]))
def test_every_figure_is_scikit_learns_on_what_is_known(case, threshold):
    labels, scores, _ = case
    decisions = decide(scores, threshold)
    known = labels != UNKNOWN
    ours = metrics.decision_metrics(labels, decisions)
    ours |= metrics.first_draw(metrics.score_figures(labels, scores).overall)
    everything = labels[known], decisions[known]
    columns = [(labels[rows, i], scores[rows, i], decisions[rows, i])
               for i, rows in enumerate(known.T) if rows.any()]  # fmt: skip
    rows = [(labels[clip, seen], scores[clip, seen], decisions[clip, seen])
            for clip, seen in enumerate(known) if seen.any()]  # fmt: skip

    def mean(values):
        return np.mean(list(values)) if columns else 0.0

    expected = {
        "micro_f1": sklearn.metrics.f1_score(*everything, zero_division=0) if known.any() else 0,
        "macro_f1": mean(sklearn.metrics.f1_score(y, d, zero_division=0) for y, _, d in columns),
        "map": mean(ap_by_scikit_learn(y, s) for y, s, _ in columns),
        "roc_auc": mean(auc_by_scikit_learn(y, s) for y, s, _ in columns),
        "ece": mean(ece_by_scikit_learn(y, s) for y, s, _ in columns),
        "subset_accuracy": mean((y == d).all() for y, _, d in rows),
        "hamming_loss": mean((y != d).mean() for y, _, d in rows),
        # A single instrument is ranked first; scikit-learn takes two or more.
        "lrap": mean(lrap([y], [s]) if len(y) > 1 else 1.0 for y, s, _ in rows),
        "coverage_error": mean(coverage([y], [s]) if len(y) > 1 else y[0] for y, s, _ in rows),
    }
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=CLOSE)


@settings(max_examples=60)
@given(partly_known(), st.data())
def test_masking_one_instrument_changes_no_others_figures(case, data):
    labels, scores, _ = case
    masked = labels.copy()
    column = data.draw(st.integers(0, labels.shape[1] - 1))
    which = data.draw(st.sampled_from(["some", "all"]))
    masked[: len(labels) // 2 if which == "some" else None, column] = UNKNOWN
    vocabulary = Vocabulary.of({str(i): str(i) for i in range(labels.shape[1])})
    decisions = decide(scores, 0.5)
    before, after = (
        metrics.per_instrument(some, scores, decisions, vocabulary) for some in (labels, masked)
    )
    for i, (ours, theirs) in enumerate(zip(before, after, strict=True)):
        assert i == column or ours == theirs
    assert after[column]["known"] == np.count_nonzero(masked[:, column] != UNKNOWN)
    for settings_ in (ThresholdSettings(), ThresholdSettings(objective="macro_f2")):
        if labels.shape[0] > 4:
            continue  # the search takes its time
        fitted = [fit_thresholds(some, scores, settings_) for some in (labels, masked)]
        others = np.arange(labels.shape[1]) != column
        np.testing.assert_array_equal(fitted[0][others], fitted[1][others])


@pytest.mark.parametrize(
    "objective", ["macro_f1", "micro_f1", "macro_f05", "subset_accuracy", "cost"]
)
@pytest.mark.parametrize("rule", ["per_instrument", "global"])
def test_thresholds_are_those_of_clips_without_the_unknown_labels(objective, rule):
    """Where all labels of some clips are unknown, it is as if these clips were not there."""
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < 0.4).astype(np.int8)
    scores = np.clip(rng.random((60, 3)) * 0.6 + 0.4 * labels, 0, 1).astype(np.float32)
    unknown = rng.random(60) < 0.5
    masked = labels.copy()
    masked[unknown] = UNKNOWN
    chosen = ThresholdSettings(objective=objective, rule=rule, cost_of_missing=3.0)
    np.testing.assert_array_equal(
        fit_thresholds(masked, scores, chosen),
        fit_thresholds(labels[~unknown], scores[~unknown], chosen),
    )


def test_intervals_are_those_of_what_is_known(forest):
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(forest.labels.shape) < 0.5, forest.labels, UNKNOWN)
    draws = draw_songs(forest.groups, resamples=20)
    figures = metrics.score_figures(labels, forest.scores, draws)
    # A draw counts each clip as often as its song is taken.
    for draw in (0, 5, -1):
        clips = np.repeat(np.arange(len(labels)), draws.times[draw].astype(int)[draws.song])
        once = metrics.score_figures(labels[clips], forest.scores[clips])
        for name, values in figures.overall.items():
            assert values[draw] == pytest.approx(once.overall[name][0], abs=CLOSE), name


def test_an_error_that_nobody_can_know_of_is_no_confusion():
    labels = np.array([[1, 0], [1, UNKNOWN], [UNKNOWN, 0]], np.int8)
    decisions = np.array([[0, 1], [0, 1], [0, 1]], np.uint8)
    missed, instead, usual = confusion(labels, decisions)
    assert missed.tolist() == [2, 0]
    assert instead[0].tolist() == [0, 1]  # Of the one clip of which it can be told.
    assert usual.tolist() == [0, 1]


def test_reliability_counts_known_clips_only():
    labels = np.array([[1], [0], [UNKNOWN]], np.int8)
    scores = np.full((3, 1), 0.55, np.float32)
    clips, _, frequency = reliability(labels, scores)
    assert clips.sum() == 2
    assert frequency.max() == 0.5


def test_unknown_labels_are_null_in_the_scores_table(tmp_path):
    labels = np.array([[1, 0, UNKNOWN, 0, 1], [UNKNOWN] * 5], np.int8)
    scores = Scores(
        ["x", "y"],
        ["testing"] * 2,
        ["x", "y"],
        labels,
        np.full((2, 5), 0.5, np.float32),
        VOCABULARY,
    )
    write_scores(tmp_path / "scores.parquet", scores)
    read = read_scores(tmp_path / "scores.parquet")
    np.testing.assert_array_equal(read.labels, labels)
    assert read.labels.dtype == np.int8


def test_means_of_a_draw_are_over_the_instruments_that_are_known_in_it():
    """The second is known in one song: in a draw without it, it is no instrument with F1 0."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (40, 2)).astype(np.int8)
    labels[:, 1] = UNKNOWN
    labels[:4, 1] = [1, 0, 1, 0]
    draws = draw_songs([str(clip // 4) for clip in range(40)])
    figures = metrics.decision_figures(labels, (labels == 1).astype(np.uint8), draws)
    np.testing.assert_array_equal(figures.overall["macro_f1"], 1.0)
    figures = metrics.score_figures(labels, (labels == 1).astype(np.float32), draws)
    np.testing.assert_array_equal(figures.overall["map"], 1.0)
    np.testing.assert_array_equal(figures.overall["roc_auc"], 1.0)

"""Ties, clips without instruments, and instruments that all clips have; see also test_metrics."""

import numpy as np
import pytest

from irmas_dist.evaluation import ranking
from irmas_dist.evaluation.bootstrap import draw_songs
from irmas_dist.evaluation.metrics import score_figures
from irmas_dist.evaluation.ranking import clip_coverage, clip_lrap


def test_tied_scores_rank_against_an_instrument():
    labels = np.array([[1, 0, 0]], dtype=np.uint8)
    assert clip_lrap(labels, np.array([[0.5, 0.5, 0.1]])) == 0.5


def test_a_clip_without_instruments_needs_none_to_be_named():
    assert clip_coverage(np.zeros((1, 3), int), np.full((1, 3), 0.5)) == 0


def test_an_instrument_in_all_clips_or_none_has_the_auc_of_chance():
    labels = np.array([[1, 0, 1], [1, 0, 0]])
    scores = np.array([[0.1, 0.9, 0.3], [0.2, 0.8, 0.4]])
    auc = score_figures(labels, scores).instruments["roc_auc"]
    np.testing.assert_array_equal(auc, [[0.5, 0.5, 0.0]])


def test_draws_that_are_made_in_blocks_are_those_made_at_once(
    forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = draw_songs(forest.groups, resamples=20)
    at_once = score_figures(forest.labels, forest.scores, draws).instruments
    monkeypatch.setattr(ranking, "BLOCK", 5_000)  # of each instrument some draws at a time
    in_blocks = score_figures(forest.labels, forest.scores, draws).instruments
    for name in ("ap", "roc_auc"):
        np.testing.assert_allclose(in_blocks[name], at_once[name])

"""Bins of scores; calibration errors are compared with scikit-learn's in test_metrics."""

import numpy as np

from irmas_dist.evaluation.calibration import reliability


def test_a_score_on_the_edge_of_a_bin_belongs_to_the_bin_below():
    scores = np.array([[0.0], [0.05], [0.5], [0.75], [1.0]])
    bins = reliability(np.array([[0], [1], [1], [0], [1]]), scores)
    assert bins.clips[:, 0].tolist() == [2, 0, 0, 0, 1, 0, 0, 1, 0, 1]
    assert bins.score[0, 0] == 0.025
    assert bins.frequency[:, 0].tolist() == [0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1]

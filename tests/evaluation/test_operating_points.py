import numpy as np

from irmas_dist.evaluation.operating_points import NEVER, decide, operating_points


def test_every_distinct_score_has_a_point_and_ties_share_one():
    labels = np.array([1, 0, 1, 0, 1])
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1], np.float32)
    points = operating_points(labels, scores)
    np.testing.assert_allclose(points.thresholds, [NEVER, 0.7, 0.3, 0.05], rtol=1e-6)
    assert points.true_positives.tolist() == [0, 1, 2, 3]
    assert points.predicted.tolist() == [0, 1, 4, 5]


def test_a_score_at_the_threshold_is_predicted_in_any_precision():
    for score in (0.1, 0.14, 0.7):
        for dtype in (np.float32, np.float64):
            assert decide(np.array([[score]], dtype=dtype), score).tolist() == [[1]]

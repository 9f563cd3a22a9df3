import numpy as np

from irmas_dist.evaluation.confusion import confusion


def test_false_positives_are_counted_beside_false_negatives():
    labels = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.uint8)
    decisions = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], np.uint8)
    found = confusion(labels, decisions)
    assert found.missed.tolist() == [1, 0, 1]
    # Where the first or the third was missed, the second was predicted; it is in 2 of 3 others.
    assert found.instead.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert found.usual.tolist() == [0, 2 / 3, 0]


def test_right_decisions_confuse_nothing():
    labels = np.eye(3, dtype=np.uint8)
    assert not any(values.any() for values in confusion(labels, labels))

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.evaluation.baselines import most_frequent
from irmas_dist.evaluation.metrics import decision_metrics
from irmas_dist.instruments import IRMAS


def micro_f1(labels, decisions):
    return decision_metrics(labels, decisions)["micro_f1"]


@settings(max_examples=50)
@given(st.integers(1, 10), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_no_other_fixed_answer_is_better_where_it_was_chosen(clips, instruments, seed):
    labels = np.random.default_rng(seed).integers(-1, 2, (clips, instruments)).astype(np.int8)
    decisions = most_frequent(labels, clips)
    best = max(
        micro_f1(labels, np.tile(np.array(answer, np.uint8), (clips, 1)))
        for answer in itertools.product([0, 1], repeat=instruments)
    )
    assert micro_f1(labels, decisions) == pytest.approx(best)


def test_the_answer_of_the_irmas_testing_excerpts(forest):
    decisions = most_frequent(forest.labels, len(forest.labels))
    assert IRMAS.decode(decisions[0]) == ["gel", "pia", "voi"]
    assert micro_f1(forest.labels, decisions) == pytest.approx(0.4404, abs=5e-5)


def test_the_answer_is_chosen_on_one_set_of_clips_and_given_for_another():
    development = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0]], dtype=np.uint8)
    assert most_frequent(development, 2).tolist() == [[1, 0, 0], [1, 0, 0]]

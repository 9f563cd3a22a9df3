"""The graph that is exported aggregates scores as evaluation does."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.config.decisions import AGGREGATION_RULES
from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.inference.export_graph import aggregated


@given(
    st.integers(1, 40), st.sampled_from([*AGGREGATION_RULES, "top1", "top7"]), st.integers(0, 10**6)
)
def test_rules_are_those_of_evaluation(windows: int, rule: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(size=(windows, 5)).astype(np.float32)
    scores[rng.uniform(size=windows) < 0.3] = 0  # silent windows
    expected = aggregate(scores, np.array([0, windows]), rule)[0]
    np.testing.assert_allclose(aggregated(torch.from_numpy(scores), rule), expected, atol=1e-6)
    silent = aggregated(torch.zeros(windows, 5), rule)
    np.testing.assert_array_equal(silent, np.zeros(5))

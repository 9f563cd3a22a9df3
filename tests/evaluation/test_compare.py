"""Models are compared on the same songs, clip by clip, by one protocol."""

from dataclasses import replace

import numpy as np
import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.compare import COMPARED, compare


@pytest.fixture(scope="module")
def thinned(forest):
    """Every tenth clip."""
    return pick(forest, np.arange(0, len(forest.clip_ids), 10))


def pick(scores, clips):
    return replace(
        scores,
        clip_ids=[scores.clip_ids[i] for i in clips],
        parts=[scores.parts[i] for i in clips],
        groups=[scores.groups[i] for i in clips],
        labels=scores.labels[clips],
        scores=scores.scores[clips],
    )


def test_a_model_does_not_differ_from_itself_in_another_order(thinned):
    shuffled = pick(thinned, np.random.default_rng(0).permutation(len(thinned.clip_ids)))
    found = compare({"a": (thinned, None), "b": (shuffled, None)}, "oracle")
    assert (found.protocol, found.clips) == ("oracle", len(thinned.clip_ids))
    for metric in COMPARED:
        difference = found.differences["a", "b"][metric]
        assert (difference.value, difference.interval, difference.real) == (0, (0, 0), False)


def test_validation_is_the_protocol_where_all_models_have_thresholds(thinned):
    own = np.full(11, 0.14, np.float32)
    found = compare({"a": (thinned, own), "b": (thinned, own + 0.2)})
    assert found.protocol == "validation"
    assert found.differences["a", "b"]["micro_f1"].real
    with pytest.raises(IrmasError, match="b has no thresholds of its own"):
        compare({"a": (thinned, own), "b": (thinned, None)}, "validation")


def test_other_clips_labels_or_instruments_are_refused(thinned):
    fewer = pick(thinned, np.arange(5))
    changed = replace(thinned, labels=1 - thinned.labels)
    for other, message in ((fewer, "b has no score for"), (changed, "label .* differently")):
        with pytest.raises(IrmasError, match=message):
            compare({"a": (thinned, None), "b": (other, None)})
    with pytest.raises(IrmasError, match="a has no score for"):
        compare({"a": (fewer, None), "b": (thinned, None)})

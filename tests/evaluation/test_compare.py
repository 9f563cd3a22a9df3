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
        assert (difference.value, difference.interval, difference.significant) == (0, (0, 0), False)


def test_validation_is_the_protocol_where_all_models_have_thresholds(thinned):
    own = np.full(11, 0.14, np.float32)
    found = compare({"a": (thinned, own), "b": (thinned, own + 0.2)})
    assert found.protocol == "validation"
    assert found.differences["a", "b"]["micro_f1"].significant
    with pytest.raises(IrmasError, match="b has no thresholds of its own"):
        compare({"a": (thinned, own), "b": (thinned, None)}, "validation")


def test_too_few_songs_to_cross_validate_name_the_protocol_that_needs_none(thinned):
    few = replace(pick(thinned, np.arange(4)), groups=["a", "a", "b", "b"])
    opened = {"a": (few, None), "b": (few, None)}
    with pytest.raises(IrmasError, match=r"cannot be cross-validated.*or compare with --protocol"):
        compare(opened)
    with pytest.raises(IrmasError, match=r"cannot be cross-validated.*recordings of it$"):
        compare(opened, "cross-validated")
    assert compare(opened, "oracle").protocol == "oracle"


@pytest.mark.parametrize(("songs", "significant"), [(1, False), (5, False), (6, True)])
def test_too_few_songs_to_be_sure_have_no_p_value_and_no_significant_difference(
    thinned, songs, significant
):
    clips = np.arange(12)
    groups = [f"song {number % songs}" for number in clips]
    labels = np.zeros((12, 11), np.int8)
    labels[:, :2] = 1
    right = replace(pick(thinned, clips), groups=groups, labels=labels, scores=labels * 1.0)
    opened = {"right": (right, None), "wrong": (replace(right, scores=1 - right.scores), None)}
    differences = compare(opened, "fixed").differences["right", "wrong"]
    assert differences["micro_f1"].significant == significant
    for difference in differences.values():
        assert (difference.p is not None) == significant
        assert (difference.interval is None) == (songs == 1)
    # Of three pairs, which are corrected for, none can be significant.
    opened["also right"] = opened["right"]
    for by_metric in compare(opened, "fixed").differences.values():
        assert {found.p for found in by_metric.values()} == {None}


@pytest.mark.parametrize("protocol", ["fixed", "cross-validated"])
def test_songs_that_one_table_does_not_know_are_those_of_another(thinned, protocol):
    """Which is named first does not matter."""
    without = replace(thinned, groups=list(thinned.clip_ids), scores=thinned.scores**2)
    opened = {"with": (thinned, None), "without": (without, None)}
    one = compare(opened, protocol)
    other = compare(dict(reversed(opened.items())), protocol)
    assert one.songs == other.songs == len(set(thinned.groups)) < len(thinned.clip_ids)
    for metric in COMPARED:
        ours, theirs = one.differences["with", "without"], other.differences["without", "with"]
        assert ours[metric].p == theirs[metric].p
        assert ours[metric].value == -theirs[metric].value


def test_clips_that_share_a_song_by_any_table_are_of_one(thinned):
    few = pick(thinned, np.arange(6))
    tables = [replace(few, groups=list(groups)) for groups in ("aabcde", "abbcde", "abcdee")]
    opened = {str(number): (table, None) for number, table in enumerate(tables)}
    assert compare(opened, "fixed").songs == 3  # 0 to 2, 3, and 4 with 5


def test_other_clips_labels_or_instruments_are_refused(thinned):
    fewer = pick(thinned, np.arange(5))
    changed = replace(thinned, labels=1 - thinned.labels)
    for other, message in ((fewer, "b has no score for"), (changed, "label .* differently")):
        with pytest.raises(IrmasError, match=message):
            compare({"a": (thinned, None), "b": (other, None)})
    with pytest.raises(IrmasError, match="a has no score for"):
        compare({"a": (fewer, None), "b": (thinned, None)})

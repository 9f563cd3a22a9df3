"""Splits: no group on two sides, every instrument on both, proportions kept, deterministic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.corpus.split import SplitSettings, held_out
from irmas_dist.errors import IrmasError


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[str], np.ndarray]:
    """Groups of 1 to 5 clips, each of one instrument, at least 4 groups per instrument."""
    groups: list[str] = []
    labels: list[int] = []
    instruments = draw(st.integers(1, 6))
    for instrument in range(instruments):
        for group in range(draw(st.integers(4, 30))):
            clips = draw(st.integers(1, 5))
            groups += [f"{instrument}/{group}"] * clips
            labels += [instrument] * clips
    return groups, np.eye(instruments, dtype=np.uint8)[labels]


@settings(max_examples=60, deadline=None)
@given(corpora(), st.floats(0.1, 0.4), st.integers(0, 5))
def test_no_group_is_torn_and_every_instrument_is_on_both_sides(
    corpus: tuple[list[str], np.ndarray], share: float, seed: int
) -> None:
    groups, labels = corpus
    out = held_out(groups, labels, SplitSettings(validation=share, seed=seed))
    inside = {group for group, held in zip(groups, out, strict=True) if held}
    outside = {group for group, held in zip(groups, out, strict=True) if not held}
    assert not inside & outside
    assert (labels[out].sum(axis=0) > 0).all()
    assert (labels[~out].sum(axis=0) > 0).all()
    # Within one group, of at most five clips, of what was asked for.
    assert (abs(labels[out].sum(axis=0) - share * labels.sum(axis=0)) <= 5).all()


@settings(max_examples=20, deadline=None)
@given(corpora(), st.randoms())
def test_the_order_of_clips_does_not_matter(
    corpus: tuple[list[str], np.ndarray], random: "object"
) -> None:
    groups, labels = corpus
    order = list(range(len(groups)))
    random.shuffle(order)
    out = held_out(groups, labels, SplitSettings())
    shuffled = held_out([groups[i] for i in order], labels[order], SplitSettings())
    np.testing.assert_array_equal(shuffled, out[order])


def test_another_seed_holds_out_other_groups() -> None:
    groups = [str(i // 2) for i in range(200)]
    labels = np.ones((200, 1), np.uint8)
    first, second = (held_out(groups, labels, SplitSettings(seed=seed)) for seed in (0, 1))
    assert (first != second).any()


def test_an_instrument_of_one_group_cannot_be_split() -> None:
    with pytest.raises(IrmasError, match="too few groups"):
        held_out(["a", "a"], np.ones((2, 1), np.uint8), SplitSettings())

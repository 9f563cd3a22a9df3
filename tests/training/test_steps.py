"""Rows of steps hold the plan: every example once, in its step, whatever fills the rest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.config.augment import AugmentSettings
from irmas_dist.training.sampling import PER_EXAMPLE, Mixtures
from irmas_dist.training.steps import PER_SOURCE, Changes, PlannedSteps, pack_steps
from tests.training.conftest import CLIPS, plan
from tests.training.test_augment import EVERYTHING

DRAWN = plan(EVERYTHING)
CHANGES = Changes.of(DRAWN, CLIPS.lengths, 20)


def unpacked(packed: PlannedSteps, *, padded: bool) -> list[list[Mixtures]]:
    """The examples of each part of each step, as a plan."""
    steps = []
    for rows, size, sources in zip(packed.rows, packed.sizes, packed.sources, strict=True):
        parts = []
        for row, examples, used in zip(rows, size.parts, sources, strict=False):
            taken = packed.layout.sources if padded else used
            part = packed.layout.unpack(row, taken, examples, packed.changes)
            example = part.example.numpy()
            real = example < examples
            assert real.sum() == used
            first = np.searchsorted(example[real], np.arange(examples + 1))
            values = {name: getattr(part, name).numpy()[real] for name in PER_SOURCE}
            values |= {name: getattr(part, name).numpy() for name in PER_EXAMPLE}
            parts.append(Mixtures(first=first, **values))
        steps.append(parts)
    return steps


@pytest.mark.parametrize("padded", [False, True])
@given(
    steps=st.integers(1, 9), workers=st.integers(1, 4), parts=st.integers(1, 4),
    capacity=st.sampled_from([0, 64]),
)  # fmt: skip
def test_the_workers_rows_are_together_the_plan(
    padded: bool, steps: int, workers: int, parts: int, capacity: int
) -> None:
    packed = [
        pack_steps(
            DRAWN, CHANGES, steps=steps, rank=rank, workers=workers, parts=parts, capacity=capacity
        )
        for rank in range(workers)
    ]
    shares = [unpacked(one, padded=padded) for one in packed]
    in_order = [part for step in range(steps) for share in shares for part in share[step]]
    for name in (*PER_SOURCE, *PER_EXAMPLE):
        whole = np.concatenate([getattr(part, name) for part in in_order])
        np.testing.assert_array_equal(whole, getattr(DRAWN, name), err_msg=name)
    counts = np.concatenate([np.diff(part.first) for part in in_order])
    np.testing.assert_array_equal(counts, np.diff(DRAWN.first))


@given(steps=st.integers(1, 60), workers=st.integers(1, 4), parts=st.integers(1, 5))
def test_a_workers_steps_have_at_most_two_sizes_of_about_the_same_examples(
    steps: int, workers: int, parts: int
) -> None:
    for rank in range(workers):
        packed = pack_steps(DRAWN, CHANGES, steps=steps, rank=rank, workers=workers, parts=parts)
        totals = [size.examples for size in packed.sizes]
        assert sum(totals) == len(DRAWN)
        assert max(totals) - min(totals) <= 1
        own = {sum(size.parts) for size in packed.sizes}
        assert max(own) - min(own) <= 1
        for size in packed.sizes:
            assert max(size.parts) - min(size.parts) <= 1


def test_a_step_of_one_worker_has_at_most_two_sizes() -> None:
    for steps in range(1, 61):
        assert len(set(pack_steps(DRAWN, CHANGES, steps=steps, parts=2).sizes)) <= 2


def test_a_row_has_space_for_at_least_as_many_sources_as_asked() -> None:
    assert pack_steps(DRAWN, CHANGES, steps=6, capacity=512).layout.sources == 512
    needed = pack_steps(DRAWN, CHANGES, steps=6)
    assert needed.layout.sources >= max(max(each) for each in needed.sources)


def test_only_the_changes_that_occur_are_computed() -> None:
    bare = AugmentSettings(gain_db=0, equalise_db=0, pitch_semitones=0)
    assert not any(Changes.of(plan(bare), CLIPS.lengths, 20))
    assert all(CHANGES[:-1])
    assert Changes.of(plan(bare, frames=50), CLIPS.lengths, 50).padding

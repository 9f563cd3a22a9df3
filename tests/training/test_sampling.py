"""Plans of examples: which clips, where their windows lie, how they are changed."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.config.augment import AugmentSettings, MixSettings
from irmas_dist.training.sampling import DECIBEL, StoreWeights, plan_epoch
from tests.training.conftest import BANDS, CLIPS, plan


def test_every_clip_is_first_in_as_many_examples_as_asked_and_windows_lie_inside_clips() -> None:
    drawn = plan(AugmentSettings())
    leads = drawn.clips[drawn.first[:-1]]
    assert (np.bincount(leads) == 2).all()
    assert (drawn.offsets >= 0).all()
    assert (drawn.offsets + 20 <= CLIPS.lengths[drawn.clips]).all()


def test_the_number_of_labels_follows_the_given_distribution() -> None:
    many = plan_epoch(
        CLIPS, BANDS, 20, 200, AugmentSettings(mix=MixSettings(counts=(1, 3))),
        np.random.default_rng(0),
    )  # fmt: skip
    sources = np.diff(many.first)
    assert (sources == 2).mean() == pytest.approx(0.75, abs=0.02)
    pairs = [CLIPS.labels[many.clips[low:high]] for low, high in
             itertools.pairwise(many.first) if high - low == 2]  # fmt: skip
    assert np.mean([pair.max(axis=0).sum() == 2 for pair in pairs]) > 0.97


@pytest.mark.parametrize("each", [1, 2, 3])
@pytest.mark.parametrize("counts", [(0, 0, 1), (0, 0, 0, 1), (1, 1, 1, 1, 1)])
def test_the_number_of_labels_is_as_near_as_clips_of_several_allow(
    each: int, counts: tuple[int, ...]
) -> None:
    """Where two numbers are as near, mixtures have one and the other in turn."""
    labels = np.zeros((len(CLIPS), 24), np.float32)
    for clip, row in enumerate(labels):
        row[(each * clip + np.arange(each)) % 24] = 1
    mix = AugmentSettings(mix=MixSettings(counts=counts))
    several = replace(CLIPS, labels=labels)
    mixtures = plan_epoch(several, BANDS, 20, 50, mix, np.random.default_rng(0))
    found = each * np.diff(mixtures.first)
    wanted = np.arange(1, len(counts) + 1)
    below = np.maximum(wanted // each, 1) * each
    nearer = np.sign(2 * (wanted - below) - each)
    expected = np.where(nearer > 0, below + each, np.where(nearer < 0, below, wanted))
    assert found.mean() == pytest.approx(np.average(expected, weights=counts), abs=0.15)


def test_every_source_of_a_mixture_has_its_own_equalisation() -> None:
    drawn = plan(AugmentSettings(equalise_db=6))
    assert len(np.unique(drawn.curves[:, 0])) == len(drawn.clips)


def test_windows_at_any_tempo_lie_inside_their_clips() -> None:
    drawn = plan(AugmentSettings(tempo=0.5))
    ends = drawn.offsets + np.ceil(19 * drawn.tempi)
    fits = CLIPS.lengths[drawn.clips] >= np.ceil(19 * drawn.tempi) + 1
    assert (ends[fits] <= CLIPS.lengths[drawn.clips][fits] - 1).all()


SEVERAL = StoreWeights((20, 8, 2), (1.0, 0.5, 2.0))
"""Three stores, which together have the `CLIPS`."""


def store_of(clips: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(SEVERAL.counts), clips, side="right")


def test_an_epoch_is_one_pass_over_the_first_store_and_of_the_others_by_weight() -> None:
    drawn = plan_epoch(
        CLIPS, BANDS, 20, 3, AugmentSettings(), np.random.default_rng(0), SEVERAL
    )  # fmt: skip
    leads = drawn.clips[drawn.first[:-1]]
    assert np.bincount(store_of(leads)).tolist() == [60, 30, 120]
    times = np.bincount(leads)
    assert set(times[:20]) == {3}
    assert set(times[20:28]) == {3, 4}
    assert set(times[28:]) == {60}
    assert (np.diff(store_of(leads)) != 0).sum() > 60  # in random order


def test_mixtures_are_of_clips_of_all_stores_by_weight() -> None:
    mixing = AugmentSettings(mix=MixSettings(counts=(0, 1)))
    alike = replace(CLIPS, labels=np.zeros_like(CLIPS.labels))  # so that none is drawn again
    drawn = plan_epoch(alike, BANDS, 20, 100, mixing, np.random.default_rng(0), SEVERAL)
    first = drawn.first[:-1]
    partners = store_of(drawn.clips[first + 1])
    shares = np.bincount(partners) / len(partners)
    assert shares == pytest.approx(np.array(SEVERAL.weights) / 3.5, abs=0.03)
    assert len(set(zip(store_of(drawn.clips[first]), partners, strict=True))) == 9


@given(
    counts=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    pools=st.integers(1, 40),
    weight=st.floats(0.01, 9),
)
def test_pools_have_a_share_of_each_store(counts: list[int], pools: int, weight: float) -> None:
    stores = StoreWeights(tuple(counts), (1.0, *[weight] * (len(counts) - 1)))
    parts = stores.divided(pools)
    assert 1 <= len(parts) <= pools
    assert len(parts) == min(pools, counts[0])  # A small further store makes no pool larger.
    for store, count in enumerate(counts):
        ours = [part.counts[store] for part in parts]
        if count < len(parts) or (store and count <= counts[0] / len(parts) / 4):
            assert ours == [count] * len(parts)
        else:
            assert sum(ours) == count
            assert 1 <= min(ours) <= max(ours) <= min(ours) + 1


@given(
    counts=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    pools=st.integers(1, 40),
    weight=st.floats(0.01, 9),
    windows=st.integers(1, 4),
)
def test_pools_have_the_examples_of_an_epoch(
    counts: list[int], pools: int, weight: float, windows: int
) -> None:
    stores = StoreWeights(tuple(counts), (1.0, *[weight] * (len(counts) - 1)))
    of_pools = [part.examples(windows) for part in stores.divided(pools)]
    assert np.sum(of_pools, axis=0).tolist() == stores.examples(windows)


def test_a_clip_counts_as_often_as_it_is_drawn() -> None:
    assert np.unique(SEVERAL.of_clips).tolist() == [1.0, 1.25, 20.0]
    assert StoreWeights.of_one(5).of_clips.tolist() == [1.0] * 5


def test_all_sources_of_an_example_have_one_gain() -> None:
    mix = MixSettings(counts=(0, 1), level_db=0.0)
    drawn = plan(AugmentSettings(mix=mix, gain_db=6.0))
    examples = np.split(drawn.levels, drawn.first[1:-1])
    assert max(map(len, examples)) == 2
    assert max(np.ptp(levels) for levels in examples) == 0
    assert (drawn.levels.min(), drawn.levels.max()) == pytest.approx(
        (-6 * DECIBEL, 6 * DECIBEL), abs=DECIBEL
    )


def test_clips_are_shifted_and_stretched_by_up_to_what_is_asked() -> None:
    drawn = plan(AugmentSettings(pitch_semitones=3.0, tempo=0.2))
    semitones = 12 * np.log2(drawn.pitches)
    assert (semitones.min(), semitones.max()) == pytest.approx((-3, 3), abs=0.5)
    assert (drawn.tempi.min(), drawn.tempi.max()) == pytest.approx((0.8, 1.2), abs=0.04)

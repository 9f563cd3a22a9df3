"""Mixtures: power adds, labels join, the plan is the same however it is cut up."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.training.augment import (
    AugmentSettings,
    MixSettings,
    Mixtures,
    mix,
    mixture_clips,
    plan_epoch,
)
from irmas_dist.training.dataset import Resident, covering_windows
from tests.training.conftest import BANDS, synthetic_clips

FLOOR = float(np.log(1e-8))
CLIPS = synthetic_clips(30, seed=3)
RESIDENT = Resident(CLIPS, torch.device("cpu"))
MEAN = torch.zeros(BANDS)


def plan(augment: AugmentSettings, seed: int = 0, frames: int = 20) -> Mixtures:
    return plan_epoch(CLIPS, BANDS, frames, 2, augment, np.random.default_rng(seed))


def test_power_spectra_add_and_labels_join() -> None:
    by_hand = Mixtures(
        first=np.array([0, 2]),
        clips=np.array([0, 1]),
        offsets=np.array([3, 5]),
        levels=np.array([0.0, np.log(0.5)], np.float32),
        masks=np.zeros((1, 4), np.int64),
    )
    mel, labels = mix(RESIDENT, by_hand, 20, FLOOR, MEAN)
    windows = [
        CLIPS.frames[CLIPS.starts[clip] + low :][:20].astype(np.float64)
        for clip, low in ((0, 3), (1, 5))
    ]
    expected = np.log(np.exp(windows[0]) + 0.5 * np.exp(windows[1]))
    np.testing.assert_allclose(mel[0].numpy(), expected, atol=1e-4)
    assert labels[0].tolist() == (CLIPS.labels[0] | CLIPS.labels[1]).tolist()


def test_every_clip_leads_as_often_as_asked_and_crops_lie_inside() -> None:
    drawn = plan(AugmentSettings())
    leads = drawn.clips[drawn.first[:-1]]
    assert (np.bincount(leads) == 2).all()
    assert (drawn.offsets >= 0).all()
    assert (drawn.offsets + 20 <= CLIPS.lengths[drawn.clips]).all()


def test_the_number_of_labels_follows_the_distribution_asked_for() -> None:
    many = plan_epoch(
        CLIPS, BANDS, 20, 200, AugmentSettings(mix=MixSettings(counts=(1, 3))),
        np.random.default_rng(0),
    )  # fmt: skip
    sources = np.diff(many.first)
    assert (sources == 2).mean() == pytest.approx(0.75, abs=0.02)
    pairs = [CLIPS.labels[many.clips[low:high]] for low, high in
             itertools.pairwise(many.first) if high - low == 2]  # fmt: skip
    assert np.mean([pair.max(axis=0).sum() == 2 for pair in pairs]) > 0.97


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=0, max_size=4), st.integers(0, 3))
def test_a_plan_cut_up_makes_the_same_examples(cuts: list[int], seed: int) -> None:
    drawn = plan(AugmentSettings(frequency_mask=4, time_mask=5), seed)
    whole = mix(RESIDENT, drawn, 20, FLOOR, MEAN)
    bounds = [0, *sorted(cuts), len(drawn)]
    parts = [
        mix(RESIDENT, drawn.part(low, high), 20, FLOOR, MEAN)
        for low, high in itertools.pairwise(bounds)
    ]
    for index in range(2):
        torch.testing.assert_close(torch.cat([part[index] for part in parts]), whole[index])


def test_masks_hide_what_they_say_and_nothing_else() -> None:
    augment = AugmentSettings(frequency_mask=4, time_mask=5)
    drawn = plan(augment)
    masked, _ = mix(RESIDENT, drawn, 20, FLOOR, torch.full((BANDS,), 99.0))
    bare = Mixtures(drawn.first, drawn.clips, drawn.offsets, drawn.levels, drawn.masks * 0)
    plain, _ = mix(RESIDENT, bare, 20, FLOOR, MEAN)
    for example, (low, high, start, end) in enumerate(drawn.masks):
        assert high - low <= 4
        assert end - start <= 5
        hidden = np.zeros((20, BANDS), bool)
        hidden[:, low:high] = True
        hidden[start:end] = True
        assert (masked[example].numpy()[hidden] == 99).all()
        np.testing.assert_array_equal(masked[example].numpy()[~hidden], plain[example][~hidden])


def test_validation_mixtures_are_whole_clips_and_the_same_for_the_same_seed() -> None:
    first, same, other = (
        mixture_clips(CLIPS, 50, MixSettings(), FLOOR, seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.frames, same.frames)
    assert first.labels.shape == (50, 3)
    assert set(first.lengths) <= set(CLIPS.lengths)
    assert 1.2 < first.labels.sum(axis=1).mean() < 2.2
    assert first.frames.shape != other.frames.shape or (first.frames != other.frames).any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=8),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_windows_cover_every_clip_to_its_end(lengths: list[int], frames: int, hop: int) -> None:
    windows = covering_windows(np.array(lengths, np.int64), frames, hop)
    for clip, length in enumerate(lengths):
        offsets = windows.offsets[windows.bounds[clip] : windows.bounds[clip + 1]]
        assert (windows.clips[windows.bounds[clip] : windows.bounds[clip + 1]] == clip).all()
        assert offsets[0] == 0
        assert offsets[-1] == max(length - frames, 0)
        assert (np.diff(offsets) <= hop).all()
        assert (np.diff(offsets) > 0).all()


def test_a_clip_shorter_than_a_window_is_padded_with_silence() -> None:
    _, inside = RESIDENT.windows(torch.tensor([0]), torch.tensor([0]), 100)
    length = int(CLIPS.lengths[0])
    assert inside[0].sum() == length
    quiet = Mixtures(
        first=np.array([0, 1]),
        clips=np.array([0]),
        offsets=np.array([0]),
        levels=np.zeros(1, np.float32),
        masks=np.zeros((1, 4), np.int64),
    )
    mel, _ = mix(RESIDENT, quiet, 100, FLOOR, MEAN)
    np.testing.assert_allclose(mel[0, length:].numpy(), FLOOR)

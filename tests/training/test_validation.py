"""Validation mixtures: whole clips, mixed within folds."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from irmas_dist.config.augment import MixSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.split import k_folds
from irmas_dist.features.clips import joined
from irmas_dist.training import validation
from irmas_dist.training.sampling import mixing_alone
from irmas_dist.training.validation import (
    BATCH,
    FOLDS,
    equally_frequent,
    folds_of,
    mixed_clips,
    mixture_clips,
    mixtures_in_parts,
)
from tests.training.conftest import BANDS, CLIPS

FEATURES = LogMelSettings(bands=BANDS)
FLOOR = FEATURES.log_floor
ALONE = mixing_alone(MixSettings(counts=(1,)))
MIXED = mixing_alone(MixSettings())


def stored(clip: int) -> np.ndarray:
    return CLIPS.frames[CLIPS.starts[clip] :][: CLIPS.lengths[clip]].astype(np.float64)


def test_validation_mixtures_are_whole_clips_and_the_same_for_the_same_seed() -> None:
    first, same, other = (mixture_clips(CLIPS, 50, MIXED, FEATURES, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.frames, same.frames)
    assert first.labels.shape == (50, 3)
    assert set(first.lengths) <= set(CLIPS.lengths)
    assert 1.2 < first.labels.sum(axis=1).mean() < 2.2
    assert first.frames.shape != other.frames.shape or (first.frames != other.frames).any()


def test_the_clips_of_a_validation_mixture_are_of_one_fold() -> None:
    folds = k_folds(CLIPS.groups, CLIPS.labels, FOLDS, 0)
    loud = np.full((len(CLIPS.frames), BANDS), FLOOR, np.float16)
    for start, length, fold in zip(CLIPS.starts, CLIPS.lengths, folds, strict=True):
        loud[start : start + length, fold] = 0.0
    made = mixture_clips(dataclasses.replace(CLIPS, frames=loud), 200, MIXED, FEATURES, seed=0)
    dealt = folds_of(made.groups)
    assert dealt is not None
    assert set(dealt) == set(range(1, FOLDS + 1))
    for start, fold in zip(made.starts, dealt, strict=True):
        (loudest,) = np.flatnonzero(made.frames[start] > FLOOR / 2)
        assert loudest == fold - 1
    assert (made.labels.sum(axis=1) > 1).any()


def test_clips_of_few_recordings_are_mixed_without_folds() -> None:
    few = dataclasses.replace(CLIPS, groups=[f"group {i % 6}" for i in range(len(CLIPS))])
    made = mixture_clips(few, 50, MIXED, FEATURES, seed=0)
    assert set(made.groups) <= set(few.groups)
    assert folds_of(made.groups) is None


def test_a_validation_mixture_of_one_clip_is_that_clip_unchanged() -> None:
    made = mixture_clips(CLIPS, 30, ALONE, FEATURES, seed=0)
    by_group = {group: index for index, group in enumerate(CLIPS.groups)}
    groups = [group.partition(": ")[2] for group in made.groups]
    for start, length, group in zip(made.starts, made.lengths, groups, strict=True):
        mel = made.frames[start : start + length].astype(np.float32)
        np.testing.assert_allclose(mel, stored(by_group[group]), atol=0.01)


@pytest.mark.parametrize("examples", [3, 50])
def test_only_mixed_clips_need_frames(examples: int) -> None:
    mixed = mixed_clips(CLIPS, examples, MIXED, FEATURES, seed=0)
    starts = np.zeros_like(CLIPS.starts)
    starts[mixed] = CLIPS.starts[mixed]
    few = dataclasses.replace(CLIPS, starts=starts)
    made = (mixture_clips(clips, examples, MIXED, FEATURES, seed=0) for clips in (few, CLIPS))
    np.testing.assert_array_equal(*(clips.frames for clips in made))


@given(
    arrays(np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.sampled_from([0, 1]))
)
def test_repeated_clips_have_every_instrument_about_as_often(labels: np.ndarray) -> None:
    labels *= labels.cumsum(axis=1) == 1  # Of one instrument at most.
    repeated = equally_frequent(labels)
    assert set(repeated) == set(range(len(labels)))
    counts = labels[repeated].sum(axis=0)
    assert set(counts) <= {0, labels.sum(axis=0).max()}
    none = np.flatnonzero(labels.sum(axis=1) == 0)
    np.testing.assert_array_equal(np.sort(repeated[np.isin(repeated, none)]), none)


def test_equalised_mixtures_have_as_many_instruments_as_the_others() -> None:
    """Also of clips with several, of which every second example takes one too many."""
    rng = np.random.default_rng(0)
    labels = rng.random((3_000, 11)).argsort(axis=1) < rng.integers(1, 4, (3_000, 1))
    clips = dataclasses.replace(
        CLIPS.select(np.resize(np.arange(len(CLIPS)), 3_000)),
        labels=labels.astype(np.float32),
        groups=[f"{clip}" for clip in range(3_000)],
    )
    settings = mixing_alone(MixSettings(), equalise_db=6.0)
    counts: tuple[list[int], list[int]] = [], []
    features = LogMelSettings(bands=BANDS)
    for _, _, plan in validation._plan_validation(clips, 16_000, settings, features, 0):
        for first, last in itertools.pairwise(plan.first):
            equalised = bool(plan.curves[first:last].any())
            plays = labels[plan.clips[first:last]].any(axis=0)
            counts[equalised].append(int(plays.sum()))
    plain, changed = map(np.mean, counts)
    assert abs(plain - changed) < 0.05  # 3 standard deviations


def test_every_second_mixture_is_equalised_and_shifted() -> None:
    changed = mixing_alone(MixSettings(counts=(1,)), equalise_db=6.0, pitch_semitones=1.0)
    once, again = (mixture_clips(CLIPS, 30, settings, FEATURES, 0) for settings in (ALONE, changed))
    same = [
        np.allclose(a, b, atol=0.01)
        for a, b in zip(
            *(np.split(made.frames, made.starts[1:]) for made in (once, again)), strict=True
        )
    ]
    groups = np.array([folds_of(once.groups)]).ravel()
    for fold in np.unique(groups):
        assert np.array(same)[groups == fold].tolist() == [
            n % 2 == 0 for n in range(np.count_nonzero(groups == fold))
        ]


def test_mixtures_made_in_batches_are_those_made_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of clips of two lengths, that follow each other in any order."""
    lengths = np.where(np.arange(len(CLIPS)) % 3 == 0, CLIPS.lengths.min(), CLIPS.lengths.min() - 5)
    clips = dataclasses.replace(CLIPS, lengths=lengths)
    changed = mixing_alone(MixSettings(), equalise_db=6.0, pitch_semitones=1.0)
    together = mixture_clips(clips, 90, changed, FEATURES, 0)
    monkeypatch.setattr("irmas_dist.training.validation.BATCH", 1)
    single = mixture_clips(clips, 90, changed, FEATURES, 0)
    np.testing.assert_allclose(together.frames, single.frames, atol=0.02)
    for name in ("starts", "lengths", "labels"):
        np.testing.assert_array_equal(getattr(together, name), getattr(single, name))
    assert together.groups == single.groups


def test_mixtures_of_repeated_clips_have_rare_instruments_as_often() -> None:
    rare = CLIPS.select(np.flatnonzero((CLIPS.labels[:, 0] == 0) | (np.arange(len(CLIPS)) < 6)))
    assert rare.labels[:, 0].mean() < 0.2
    repeated = rare.select(equally_frequent(rare.labels))
    made = mixture_clips(repeated, 300, ALONE, FEATURES, seed=0)
    np.testing.assert_allclose(made.labels.mean(axis=0), 1 / 3, atol=0.06)


def test_mixtures_are_handed_on_in_parts_that_have_so_many_frames_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = mixture_clips(CLIPS, 90, MIXED, FEATURES, seed=0)
    monkeypatch.setattr("irmas_dist.training.validation.FRAMES_AT_A_TIME", 200)
    parts = list(mixtures_in_parts(CLIPS, 90, MIXED, FEATURES, seed=0))
    assert len(parts) > 3
    longest = int(CLIPS.lengths.max())
    assert max(len(part.frames) for part in parts) < 200 + BATCH * longest
    together = joined(parts)
    for name in ("frames", "starts", "lengths", "labels"):
        np.testing.assert_array_equal(getattr(together, name), getattr(whole, name))
    assert together.clip_ids == whole.clip_ids == [f"mixture {n}" for n in range(1, 91)]
    assert together.groups == whole.groups


def test_an_instrument_plays_from_a_label_of_one_half_on() -> None:
    labels = np.array([[0.5, 0], [0.49, 1], [np.nan, 1]], np.float32)
    assert np.bincount(equally_frequent(labels)).tolist() == [2, 1, 1]

"""Validation mixtures: whole clips, mixed within folds."""

import dataclasses

import numpy as np
import pytest

from irmas_dist.config.augment import MixSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.split import k_folds
from irmas_dist.training.validation import FOLDS, folds_of, mixed_clips, mixture_clips
from tests.training.conftest import BANDS, CLIPS

FEATURES = LogMelSettings(bands=BANDS)
FLOOR = FEATURES.log_floor
ALONE = MixSettings(counts=(1,))


def stored(clip: int) -> np.ndarray:
    return CLIPS.frames[CLIPS.starts[clip] :][: CLIPS.lengths[clip]].astype(np.float64)


def test_validation_mixtures_are_whole_clips_and_the_same_for_the_same_seed() -> None:
    first, same, other = (
        mixture_clips(CLIPS, 50, MixSettings(), FEATURES, seed) for seed in (0, 0, 1)
    )
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
    made = mixture_clips(
        dataclasses.replace(CLIPS, frames=loud), 200, MixSettings(), FEATURES, seed=0
    )
    dealt = folds_of(made.groups)
    assert dealt is not None
    assert set(dealt) == set(range(1, FOLDS + 1))
    for start, fold in zip(made.starts, dealt, strict=True):
        (loudest,) = np.flatnonzero(made.frames[start] > FLOOR / 2)
        assert loudest == fold - 1
    assert (made.labels.sum(axis=1) > 1).any()


def test_clips_of_few_recordings_are_mixed_without_folds() -> None:
    few = dataclasses.replace(CLIPS, groups=[f"group {i % 6}" for i in range(len(CLIPS))])
    made = mixture_clips(few, 50, MixSettings(), FEATURES, seed=0)
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
    mixed = mixed_clips(CLIPS, examples, MixSettings(), FEATURES, seed=0)
    starts = np.zeros_like(CLIPS.starts)
    starts[mixed] = CLIPS.starts[mixed]
    few = dataclasses.replace(CLIPS, starts=starts)
    made = (
        mixture_clips(clips, examples, MixSettings(), FEATURES, seed=0) for clips in (few, CLIPS)
    )
    np.testing.assert_array_equal(*(clips.frames for clips in made))

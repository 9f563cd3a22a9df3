"""Plans of examples: which clips, where their windows lie, how they are changed."""

import itertools

import numpy as np
import pytest

from irmas_dist.config.augment import AugmentSettings, MixSettings
from irmas_dist.training.sampling import plan_epoch
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


def test_every_source_of_a_mixture_has_its_own_equalisation() -> None:
    drawn = plan(AugmentSettings(equalise_db=6))
    assert len(np.unique(drawn.curves[:, 0])) == len(drawn.clips)


def test_windows_at_any_tempo_lie_inside_their_clips() -> None:
    drawn = plan(AugmentSettings(tempo=0.5))
    ends = drawn.offsets + np.ceil(19 * drawn.tempi)
    fits = CLIPS.lengths[drawn.clips] >= np.ceil(19 * drawn.tempi) + 1
    assert (ends[fits] <= CLIPS.lengths[drawn.clips][fits] - 1).all()

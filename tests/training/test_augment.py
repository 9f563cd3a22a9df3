"""Mixtures: power adds, labels join, changes do what they say, a plan may be cut up anyhow."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.augment import AugmentSettings, MixSettings
from irmas_dist.corpus.split import k_folds
from irmas_dist.features.logmel import LogMelSettings, log_mel
from irmas_dist.features.mel import band_centres, mel_filters
from irmas_dist.training.augment import Mixer
from irmas_dist.training.sampling import DECIBEL, Mixtures, mixing_alone, plan_epoch
from irmas_dist.training.validation import FOLDS, folds_of, mixed_clips, mixture_clips
from irmas_dist.training.windows import DeviceClips, covering_windows
from tests.training.conftest import BANDS, synthetic_clips

FEATURES = LogMelSettings(bands=BANDS)
FLOOR = FEATURES.log_floor
CLIPS = synthetic_clips(30, seed=3)
RESIDENT = DeviceClips(CLIPS, torch.device("cpu"))
HIDDEN = 99.0
MIXER = Mixer(FEATURES, torch.full((BANDS,), HIDDEN), torch.device("cpu"))
ALONE = MixSettings(counts=(1,))
EVERYTHING = AugmentSettings(
    equalise_db=6,
    pitch_semitones=2,
    tempo=0.2,
    noise_snr_db=10,
    frequency_mask=4,
    frequency_masks=2,
    time_mask=5,
    time_masks=2,
)


def plan(augment: AugmentSettings, seed: int = 0, frames: int = 20) -> Mixtures:
    return plan_epoch(CLIPS, BANDS, frames, 2, augment, np.random.default_rng(seed))


def by_hand(clips: list[int], offsets: list[int], **changes: object) -> Mixtures:
    """One example of windows as they are, but for ``changes``."""
    sources = len(clips)
    plain = Mixtures(
        first=np.array([0, sources]),
        clips=np.array(clips),
        offsets=np.array(offsets),
        levels=np.zeros(sources, np.float32),
        curves=np.zeros((sources, 2), np.float32),
        pitches=np.ones(sources, np.float32),
        tempi=np.ones(sources, np.float32),
        noise=np.zeros(1, np.float32),
        colours=np.zeros((1, 2), np.float32),
        band_masks=np.zeros((1, 1, 2), np.int64),
        frame_masks=np.zeros((1, 1, 2), np.int64),
    )
    return dataclasses.replace(plain, **changes)


def window(clip: int, offset: int, frames: int = 20) -> np.ndarray:
    return CLIPS.frames[CLIPS.starts[clip] + offset :][:frames].astype(np.float64)


def test_power_spectra_add_and_labels_join() -> None:
    drawn = by_hand([0, 1], [3, 5], levels=np.array([0.0, np.log(0.5)], np.float32))
    mel, labels = MIXER(RESIDENT, drawn, 20)
    expected = np.log(np.exp(window(0, 3)) + 0.5 * np.exp(window(1, 5)))
    np.testing.assert_allclose(mel[0].numpy(), expected, atol=1e-4)
    assert labels[0].tolist() == (CLIPS.labels[0] | CLIPS.labels[1]).tolist()


@pytest.mark.parametrize(
    "features",
    [LogMelSettings(bands=BANDS, power=1), LogMelSettings(bands=BANDS, power=1.5)],
)
def test_features_in_any_unit_are_mixed_in_power(features: LogMelSettings) -> None:
    unit = features.log_power_per_unit
    stored = dataclasses.replace(CLIPS, frames=(CLIPS.frames / unit).astype(np.float32))
    mixer = Mixer(features, torch.full((BANDS,), HIDDEN), torch.device("cpu"))
    drawn = plan(EVERYTHING)
    mel, labels = mixer(DeviceClips(stored, torch.device("cpu")), drawn, 20)
    expected, same = MIXER(RESIDENT, drawn, 20)
    seen = expected != HIDDEN
    np.testing.assert_allclose(mel[seen] * unit, expected[seen], atol=0.02)
    assert torch.equal(labels, same)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 29), min_size=1, max_size=5))
def test_a_mixture_is_nowhere_quieter_than_any_of_its_sources(clips: list[int]) -> None:
    mel, labels = MIXER(RESIDENT, by_hand(clips, [0] * len(clips)), 20)
    for clip in clips:
        assert (mel[0].numpy() >= window(clip, 0) - 1e-4).all()
    assert labels[0].tolist() == CLIPS.labels[clips].max(axis=0).tolist()


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


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=0, max_size=4), st.integers(0, 3))
def test_a_plan_cut_up_makes_the_same_examples(cuts: list[int], seed: int) -> None:
    drawn = plan(EVERYTHING, seed)
    whole = MIXER(RESIDENT, drawn, 20)
    bounds = [0, *sorted(cuts), len(drawn)]
    parts = [MIXER(RESIDENT, drawn.part(low, high), 20) for low, high in itertools.pairwise(bounds)]
    for index in range(2):
        torch.testing.assert_close(torch.cat([part[index] for part in parts]), whole[index])


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 9), st.integers(0, 3))
def test_masks_hide_what_they_say_and_nothing_else(widest: int, seed: int) -> None:
    augment = AugmentSettings(
        frequency_mask=widest, frequency_masks=2, time_mask=widest, time_masks=3
    )
    drawn = plan(augment, seed)
    masked, _ = MIXER(RESIDENT, drawn, 20)
    bare = dataclasses.replace(
        drawn, band_masks=drawn.band_masks * 0, frame_masks=drawn.frame_masks * 0
    )
    plain, _ = MIXER(RESIDENT, bare, 20)
    for example in range(len(drawn)):
        hidden = np.zeros((20, BANDS), bool)
        for low, high in drawn.band_masks[example]:
            assert 0 <= high - low <= widest
            hidden[:, low:high] = True
        for low, high in drawn.frame_masks[example]:
            assert 0 <= high - low <= widest
            hidden[low:high] = True
        assert (masked[example].numpy()[hidden] == HIDDEN).all()
        np.testing.assert_array_equal(masked[example].numpy()[~hidden], plain[example][~hidden])


def test_changes_turned_off_leave_the_window_as_it_is() -> None:
    drawn = plan(mixing_alone(ALONE))
    mel, _ = MIXER(RESIDENT, drawn, 20)
    for example in range(len(drawn)):
        as_stored = window(drawn.clips[example], drawn.offsets[example])
        np.testing.assert_allclose(mel[example].numpy(), as_stored, atol=1e-5)


def test_equalisation_is_one_smooth_curve_over_all_frames_as_strong_as_asked() -> None:
    colour = {"equalise_db": 6, "equalise_order": 3, "pitch_semitones": 0}
    drawn = plan(AugmentSettings(mix=ALONE, gain_db=0, **colour), frames=8)
    curves = []
    for example in range(len(drawn)):
        mel, _ = MIXER(RESIDENT, drawn.part(example, example + 1), 8)
        curve = mel[0].numpy() - window(drawn.clips[example], drawn.offsets[example], 8)
        np.testing.assert_allclose(curve, curve[:1].repeat(8, axis=0), atol=1e-4)
        curves.append(curve[0] / DECIBEL)
        # Cosines of up to one and a half periods turn at most twice in between.
        turns = np.diff(np.sign(np.diff(curve[0]))) != 0
        assert turns.sum() <= 2
    assert np.std(curves) == pytest.approx(6, rel=0.25)
    assert np.abs(np.mean(curves, axis=1)).max() < 1e-3  # a colour, not a level


def test_every_source_of_a_mixture_has_a_colour_of_its_own() -> None:
    drawn = plan(AugmentSettings(equalise_db=6))
    assert len(np.unique(drawn.curves[:, 0])) == len(drawn.clips)


@pytest.mark.parametrize("semitones", [-12, -3, 5, 12])
def test_a_pitched_spectrum_is_that_of_a_tone_as_much_higher(semitones: int) -> None:
    """Judged by spectra of real tones, an equal ratio apart, through the whole front end."""
    ratio = 2 ** (semitones / 12)
    features = LogMelSettings(bands=96, peak_normalise=False)
    seconds = np.arange(22_050) / 22_050

    def peak(mel: np.ndarray) -> float:
        power = np.exp(mel.astype(np.float64) - mel.max())
        return float((power * np.arange(96)).sum() / power.sum())

    tone, wanted = (
        log_mel(np.sin(2 * np.pi * hertz * seconds, dtype=np.float32), features, 22_050)[:, 20]
        for hertz in (1_500, 1_500 * ratio)
    )
    mixer = Mixer(features, torch.zeros(96), torch.device("cpu"))
    mel = torch.from_numpy(tone.astype(np.float32))[None, None]
    moved = mixer._shifted(mel, torch.tensor([ratio]))[0, 0].numpy()
    assert peak(moved) == pytest.approx(peak(wanted), abs=0.35)


@pytest.mark.parametrize("tempo", [0.7, 1.3])
def test_a_faster_window_takes_in_more_of_its_clip(tempo: float) -> None:
    slow = CLIPS.frames[CLIPS.starts[0] :][: CLIPS.lengths[0]].astype(np.float32)
    drawn = by_hand([0], [2], tempi=np.array([tempo], np.float32))
    mel, _ = MIXER(RESIDENT, drawn, 20)
    at = 2 + np.arange(20) * tempo
    expected = [np.interp(at, np.arange(len(slow)), band) for band in slow.T]
    np.testing.assert_allclose(mel[0].numpy(), np.transpose(expected), atol=1e-4)


def test_windows_at_any_tempo_lie_inside_their_clips() -> None:
    drawn = plan(AugmentSettings(tempo=0.5))
    ends = drawn.offsets + np.ceil(19 * drawn.tempi)
    fits = CLIPS.lengths[drawn.clips] >= np.ceil(19 * drawn.tempi) + 1
    assert (ends[fits] <= CLIPS.lengths[drawn.clips][fits] - 1).all()


def test_noise_is_as_far_below_the_example_as_asked() -> None:
    for snr_db in (10.0, 30.0):
        noise = np.array([np.exp(-snr_db * DECIBEL)], np.float32)
        noisy, _ = MIXER(RESIDENT, by_hand([0], [0], noise=noise), 20)
        clean = np.exp(window(0, 0))
        added = np.exp(noisy[0].numpy().astype(np.float64)) - clean
        assert 10 * np.log10(clean.mean() / added.mean()) == pytest.approx(snr_db, abs=0.1)
    assert (plan(AugmentSettings(noise_snr_db=0)).noise == 0).all()
    drawn = plan(AugmentSettings(noise_snr_db=20)).noise
    assert drawn.max() <= 10 ** (-2)
    assert drawn.min() >= 10 ** (-6) * 0.99


def test_the_front_ends_filters_peak_where_the_band_centres_are() -> None:
    features = LogMelSettings(bands=40, fmin=100, fmax=9_000)
    resolution = features.sample_rate / features.n_fft
    peaks = mel_filters(features).argmax(axis=1) * resolution
    np.testing.assert_allclose(band_centres(features), peaks, atol=resolution)


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
        (heard,) = np.flatnonzero(made.frames[start] > FLOOR / 2)
        assert heard == fold - 1
    assert (made.labels.sum(axis=1) > 1).any()


def test_clips_of_few_recordings_are_mixed_all_with_all() -> None:
    few = dataclasses.replace(CLIPS, groups=[f"group {i % 6}" for i in range(len(CLIPS))])
    made = mixture_clips(few, 50, MixSettings(), FEATURES, seed=0)
    assert set(made.groups) <= set(few.groups)
    assert folds_of(made.groups) is None


def test_a_validation_mixture_of_one_clip_is_that_clip_as_it_is() -> None:
    made = mixture_clips(CLIPS, 30, ALONE, FEATURES, seed=0)
    by_group = {group: index for index, group in enumerate(CLIPS.groups)}
    groups = [group.partition(": ")[2] for group in made.groups]
    for start, length, group in zip(made.starts, made.lengths, groups, strict=True):
        mel = made.frames[start : start + length].astype(np.float32)
        np.testing.assert_allclose(mel, window(by_group[group], 0, int(length)), atol=0.01)


@pytest.mark.parametrize("examples", [3, 50])
def test_only_the_clips_that_are_mixed_need_frames(examples: int) -> None:
    mixed = mixed_clips(CLIPS, examples, MixSettings(), FEATURES, seed=0)
    starts = np.zeros_like(CLIPS.starts)
    starts[mixed] = CLIPS.starts[mixed]
    few = dataclasses.replace(CLIPS, starts=starts)
    made = (
        mixture_clips(clips, examples, MixSettings(), FEATURES, seed=0) for clips in (few, CLIPS)
    )
    np.testing.assert_array_equal(*(clips.frames for clips in made))


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
    for tempo in (1.0, 0.9):
        drawn = by_hand([0], [0], tempi=np.array([tempo], np.float32))
        mel, _ = MIXER(RESIDENT, drawn, 100)
        np.testing.assert_allclose(mel[0, int(length / tempo) + 1 :].numpy(), FLOOR, rtol=1e-6)
        assert (mel[0, : int((length - 1) / tempo)].numpy() > FLOOR + 1).any(axis=1).all()

"""Mixtures: power adds, labels join, each change has its effect, and a plan may be divided."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.config.augment import AugmentSettings, MixSettings
from irmas_dist.config.features import LogMelSettings
from irmas_dist.features.logmel import log_mel
from irmas_dist.training.augment import Mixer
from irmas_dist.training.sampling import DECIBEL, Mixtures, mixing_alone
from irmas_dist.training.steps import Changes, DeviceMixtures, on_device
from irmas_dist.training.windows import DeviceClips
from tests.training.conftest import BANDS, CLIPS, plan

FEATURES = LogMelSettings(bands=BANDS)
FLOOR = FEATURES.log_floor
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


def by_hand(clips: list[int], offsets: list[int], **changes: object) -> Mixtures:
    """One example of unchanged windows except for ``changes``."""
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


def sent(drawn: Mixtures, frames: int = 20) -> DeviceMixtures:
    """A plan of the `CLIPS` on the CPU, as a `Mixer` takes it."""
    return on_device(drawn, Changes.of(drawn, CLIPS.lengths, frames), torch.device("cpu"))


def window(clip: int, offset: int, frames: int = 20) -> np.ndarray:
    return CLIPS.frames[CLIPS.starts[clip] + offset :][:frames].astype(np.float64)


def test_power_spectra_add_and_labels_join() -> None:
    drawn = by_hand([0, 1], [3, 5], levels=np.array([0.0, np.log(0.5)], np.float32))
    mel, labels = MIXER(RESIDENT, sent(drawn), 20)
    expected = np.log(np.exp(window(0, 3)) + 0.5 * np.exp(window(1, 5)))
    np.testing.assert_allclose(mel[0].numpy(), expected, atol=1e-4)
    assert labels[0].tolist() == np.maximum(CLIPS.labels[0], CLIPS.labels[1]).tolist()


@pytest.mark.parametrize(
    "features",
    [LogMelSettings(bands=BANDS, power=1), LogMelSettings(bands=BANDS, power=1.5)],
)
def test_features_in_any_unit_are_mixed_in_power(features: LogMelSettings) -> None:
    unit = features.log_power_per_unit
    stored = dataclasses.replace(CLIPS, frames=(CLIPS.frames / unit).astype(np.float32))
    mixer = Mixer(features, torch.full((BANDS,), HIDDEN), torch.device("cpu"))
    drawn = plan(EVERYTHING)
    mel, labels = mixer(DeviceClips(stored, torch.device("cpu")), sent(drawn), 20)
    expected, same = MIXER(RESIDENT, sent(drawn), 20)
    seen = expected != HIDDEN
    np.testing.assert_allclose(mel[seen] * unit, expected[seen], atol=0.02)
    assert torch.equal(labels, same)


@settings(max_examples=12)
@given(st.lists(st.integers(0, 29), min_size=1, max_size=5))
def test_a_mixture_is_nowhere_quieter_than_any_of_its_sources(clips: list[int]) -> None:
    mel, labels = MIXER(RESIDENT, sent(by_hand(clips, [0] * len(clips))), 20)
    for clip in clips:
        assert (mel[0].numpy() >= window(clip, 0) - 1e-4).all()
    assert labels[0].tolist() == CLIPS.labels[clips].max(axis=0).tolist()


@settings(max_examples=12)
@given(st.lists(st.integers(0, 60), min_size=0, max_size=4), st.integers(0, 3))
def test_the_parts_of_a_plan_make_the_same_examples(cuts: list[int], seed: int) -> None:
    drawn = plan(EVERYTHING, seed)
    whole = MIXER(RESIDENT, sent(drawn), 20)
    bounds = [0, *sorted(cuts), len(drawn)]
    parts = [
        MIXER(RESIDENT, sent(drawn.part(low, high)), 20) for low, high in itertools.pairwise(bounds)
    ]
    for index in range(2):
        torch.testing.assert_close(torch.cat([part[index] for part in parts]), whole[index])


@settings(max_examples=12)
@given(st.integers(0, 9), st.integers(0, 3))
def test_masks_hide_the_planned_spans_and_nothing_else(widest: int, seed: int) -> None:
    augment = AugmentSettings(
        frequency_mask=widest, frequency_masks=2, time_mask=widest, time_masks=3
    )
    drawn = plan(augment, seed)
    masked, _ = MIXER(RESIDENT, sent(drawn), 20)
    bare = dataclasses.replace(
        drawn, band_masks=drawn.band_masks * 0, frame_masks=drawn.frame_masks * 0
    )
    plain, _ = MIXER(RESIDENT, sent(bare), 20)
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


def test_without_changes_the_window_is_as_stored() -> None:
    drawn = plan(mixing_alone(ALONE))
    mel, _ = MIXER(RESIDENT, sent(drawn), 20)
    for example in range(len(drawn)):
        as_stored = window(drawn.clips[example], drawn.offsets[example])
        np.testing.assert_allclose(mel[example].numpy(), as_stored, atol=1e-5)


def test_equalisation_is_one_smooth_curve_over_all_frames_of_the_given_deviation() -> None:
    colour = {"equalise_db": 6, "equalise_order": 3, "pitch_semitones": 0}
    drawn = plan(AugmentSettings(mix=ALONE, gain_db=0, **colour), frames=8)
    curves = []
    for example in range(len(drawn)):
        mel, _ = MIXER(RESIDENT, sent(drawn.part(example, example + 1), 8), 8)
        curve = mel[0].numpy() - window(drawn.clips[example], drawn.offsets[example], 8)
        np.testing.assert_allclose(curve, curve[:1].repeat(8, axis=0), atol=1e-4)
        curves.append(curve[0] / DECIBEL)
        # Cosines of up to one and a half periods turn at most twice in between.
        turns = np.diff(np.sign(np.diff(curve[0]))) != 0
        assert turns.sum() <= 2
    assert np.std(curves) == pytest.approx(6, rel=0.25)
    assert np.abs(np.mean(curves, axis=1)).max() < 1e-3  # a colour, not a level


@pytest.mark.parametrize("semitones", [-12, -3, 5, 12])
def test_a_shifted_spectrum_is_that_of_a_tone_shifted_as_far(semitones: int) -> None:
    """Compared with spectra of real tones, an equal ratio apart, from the whole front end."""
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
    shifted = mixer._shift_pitch(mel, torch.tensor([ratio]))[0, 0].numpy()
    assert peak(shifted) == pytest.approx(peak(wanted), abs=0.35)


@pytest.mark.parametrize("tempo", [0.7, 1.3])
def test_a_faster_window_covers_more_of_its_clip(tempo: float) -> None:
    slow = CLIPS.frames[CLIPS.starts[0] :][: CLIPS.lengths[0]].astype(np.float32)
    drawn = by_hand([0], [2], tempi=np.array([tempo], np.float32))
    mel, _ = MIXER(RESIDENT, sent(drawn), 20)
    at = 2 + np.arange(20) * tempo
    expected = [np.interp(at, np.arange(len(slow)), band) for band in slow.T]
    np.testing.assert_allclose(mel[0].numpy(), np.transpose(expected), atol=1e-4)


def test_noise_has_the_given_signal_to_noise_ratio() -> None:
    for snr_db in (10.0, 30.0):
        noise = np.array([np.exp(-snr_db * DECIBEL)], np.float32)
        noisy, _ = MIXER(RESIDENT, sent(by_hand([0], [0], noise=noise)), 20)
        clean = np.exp(window(0, 0))
        added = np.exp(noisy[0].numpy().astype(np.float64)) - clean
        assert 10 * np.log10(clean.mean() / added.mean()) == pytest.approx(snr_db, abs=0.1)
    assert (plan(AugmentSettings(noise_snr_db=0)).noise == 0).all()


def test_coloured_noise_has_it_too() -> None:
    drawn = plan(AugmentSettings(noise_snr_db=20, mix=ALONE))
    assert np.abs(drawn.colours).max() > 1
    silent = dataclasses.replace(drawn, noise=np.zeros_like(drawn.noise))
    noisy, clean = (
        np.exp(MIXER(RESIDENT, sent(one), 20)[0].numpy().astype(np.float64)).mean(axis=(1, 2))
        for one in (drawn, silent)
    )
    ratios = 10 * np.log10(clean / (noisy - clean))
    loud = drawn.noise > 1e-4  # Others drown in the rounding of the clip.
    np.testing.assert_allclose(ratios[loud], -10 * np.log10(drawn.noise[loud]), atol=0.1)


def test_the_signal_to_noise_ratio_is_the_lowest_at_least() -> None:
    drawn = plan(AugmentSettings(noise_snr_db=20)).noise
    assert drawn.max() <= 10 ** (-2)
    assert drawn.min() >= 10 ** (-6) * 0.99


def test_a_clip_shorter_than_a_window_is_padded_with_silence() -> None:
    _, inside = RESIDENT.windows(torch.tensor([0]), torch.tensor([0]), 100)
    length = int(CLIPS.lengths[0])
    assert inside[0].sum() == length
    for tempo in (1.0, 0.9):
        drawn = by_hand([0], [0], tempi=np.array([tempo], np.float32))
        mel, _ = MIXER(RESIDENT, sent(drawn, 100), 100)
        np.testing.assert_allclose(mel[0, int(length / tempo) + 1 :].numpy(), FLOOR, rtol=1e-6)
        assert (mel[0, : int((length - 1) / tempo)].numpy() > FLOOR + 1).any(axis=1).all()

"""The front end in PyTorch computes the spectrogram that features are made of."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.mixdown import SILENCE
from irmas_dist.errors import IrmasError
from irmas_dist.features.logmel import log_mel
from irmas_dist.features.mel import mel_filters
from irmas_dist.inference.front_end import FrontEnd, Resampler


def mono(path: Path, rate: int) -> np.ndarray:
    samples, own = soundfile.read(path, dtype="float32")
    return soxr.resample(samples[:, 0], own, rate).astype(np.float32)


@pytest.mark.parametrize("backend", ["fast", "librosa"])
@pytest.mark.parametrize(
    "changed",
    [{}, {"n_fft": 400, "hop_length": 160}, {"power": 1.5}, {"window": "hamming", "n_fft": 2_047}],
)
def test_the_front_end_is_that_of_features(
    excerpts: list[Path], changed: dict, backend: str
) -> None:
    chosen = LogMelSettings(dtype="float32", backend=backend, **changed)
    samples = mono(excerpts[0], 22_050)
    found = FrontEnd(chosen)(torch.from_numpy(samples)).numpy()
    expected = log_mel(samples, chosen, 22_050)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.abs(found - expected).mean() < 1e-4


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"n_fft": 1_023},
        {"sample_rate": 11_025},
        {"mel_scale": "htk"},
        {"fmin": 30, "fmax": 7e3},
    ],
)
def test_mel_filters_are_those_of_features(changed: dict) -> None:
    chosen = LogMelSettings(hop_length=512, **changed)
    expected = mel_filters(chosen)
    np.testing.assert_allclose(FrontEnd(chosen).filters, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize(
    ("rate", "all_bins", "most_bins"),
    [
        (8_000, 0.1, 0.005),
        (11_025, 1e-3, 3e-4),
        (16_000, 0.1, 0.005),
        (24_000, 0.3, 0.03),
        (32_000, 0.3, 0.03),
        (44_100, 1e-3, 3e-4),
        (48_000, 0.3, 0.03),
        (96_000, 0.3, 0.03),
    ],
)
def test_samples_of_another_rate_are_resampled_as_by_soxr(
    excerpts: list[Path], rate: int, all_bins: float, most_bins: float
) -> None:
    """Limits on the log-mel values are in nepers; most bins are 999 of 1,000.

    The largest differences are in the first frame, of clips that begin abruptly, near the Nyquist
    frequency. Above that of a lower rate, bands hold the resamplers' residue, and are left out.
    """
    chosen = LogMelSettings(dtype="float32", fmax=min(0.45 * rate, 11_025))
    front_end = FrontEnd(chosen, rate)
    for path in excerpts:
        samples = mono(path, rate)
        found = front_end(torch.from_numpy(samples)).numpy()
        difference = np.abs(found - log_mel(samples, chosen, rate))
        assert difference.max() < all_bins
        assert np.quantile(difference, 0.999) < most_bins


@given(
    samples=st.integers(1, 2_000),
    rates=st.sampled_from([(44_100, 22_050), (48_000, 22_050), (8_000, 22_050), (96_000, 16_000)]),
)
def test_a_resampled_clip_has_the_length_that_features_give_it(
    samples: int, rates: tuple[int, int]
) -> None:
    resampled = Resampler(*rates)(torch.ones(samples))
    assert len(resampled) == -(-samples * rates[1] // rates[0])


@pytest.mark.parametrize("rate", [22_050, 44_100])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_clip_is_silent_below_the_level_of_silence(rate: int, dtype: str) -> None:
    chosen = LogMelSettings(dtype=dtype)
    noise = np.random.default_rng(0).uniform(-1, 1, rate).astype(np.float32)
    noise /= np.abs(noise).max()
    for level, silent in ((0, True), (0.999, True), (1.001, False)):
        samples = np.float32(level * SILENCE) * noise
        for mel in (
            FrontEnd(chosen, rate)(torch.from_numpy(samples)).numpy(),
            log_mel(samples, chosen, rate).astype(np.float32),
        ):
            assert (mel.max() <= chosen.silence) == silent


def test_a_gpu_is_never_waited_for() -> None:
    # Tensors on the meta device have no values: reading one on the host raises.
    front_end = FrontEnd(LogMelSettings(), 48_000).to("meta")
    assert front_end(torch.empty(96_000, device="meta")).shape == (64, 44)


def test_an_fft_that_is_too_long_is_refused() -> None:
    chosen = LogMelSettings(n_fft=16_384, hop_length=8_192)
    with pytest.raises(IrmasError, match="n_fft=16384 is too long to export; 8192 or less can"):
        FrontEnd(chosen)


def test_a_ratio_of_rates_that_takes_a_huge_kernel_is_refused() -> None:
    with pytest.raises(IrmasError, match="44099 Hz cannot be resampled to the model's 22050 Hz"):
        FrontEnd(LogMelSettings(), 44_099)

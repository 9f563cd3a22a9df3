"""Window, mel filters and band centres agree with librosa, scipy and a tone."""

import librosa
import numpy as np
import pytest
import scipy.signal

from irmas_dist.config.features import LogMelSettings
from irmas_dist.features.logmel import log_mel
from irmas_dist.features.mel import band_centres, mel_filters, periodic_window

SETTINGS = [
    {},
    {"n_fft": 1_024, "bands": 128},
    {"mel_scale": "htk", "bands": 64, "fmin": 50, "fmax": 8_000},
    {"n_fft": 1_001, "hop_length": 333, "sample_rate": 16_000},
    {"sample_rate": 48_000, "n_fft": 4_096},
]


@pytest.mark.parametrize("values", SETTINGS)
def test_filters_are_those_of_librosa(values: dict[str, object]) -> None:
    settings = LogMelSettings.model_validate(values)
    expected = librosa.filters.mel(
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        n_mels=settings.bands,
        fmin=settings.fmin,
        fmax=settings.fmax,
        htk=settings.mel_scale == "htk",
    )
    np.testing.assert_allclose(mel_filters(settings), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("window", ["hann", "hamming", "blackman", "bartlett"])
@pytest.mark.parametrize("n_fft", [512, 1_001])
def test_windows_are_the_periodic_ones_of_scipy(window: str, n_fft: int) -> None:
    settings = LogMelSettings(window=window, n_fft=n_fft, hop_length=256)
    expected = scipy.signal.get_window(window, n_fft)
    np.testing.assert_allclose(periodic_window(settings), expected, atol=1e-7)


@pytest.mark.parametrize("hz", [300, 1_000, 4_000])
def test_a_tone_is_loudest_in_the_band_of_its_frequency(hz: float) -> None:
    settings = LogMelSettings()
    tone = np.sin(2 * np.pi * hz * np.arange(22_050) / 22_050).astype(np.float32)
    loudest = log_mel(tone, settings, 22_050)[:, 20].argmax()
    assert band_centres(settings)[loudest] == pytest.approx(hz, rel=0.06)


def test_filters_peak_at_the_band_centres() -> None:
    features = LogMelSettings(bands=40, fmin=100, fmax=9_000)
    resolution = features.sample_rate / features.n_fft
    peaks = mel_filters(features).argmax(axis=1) * resolution
    np.testing.assert_allclose(band_centres(features), peaks, atol=resolution)

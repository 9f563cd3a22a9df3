"""The front end gives librosa's numbers, whatever it is fed and from where."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr

from irmas_dist.features.logmel import AudioError, LogMelSettings, log_mel, read_audio

SETTINGS = LogMelSettings()
DB_PER_NAT = 10 / np.log(10)


def reference(samples: np.ndarray, rate: int, settings: LogMelSettings) -> np.ndarray:
    """The same by librosa, in decibels: shape (bands, frames)."""
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    mono = soxr.resample(mono.astype(np.float64), rate, settings.sample_rate, quality="HQ")
    if (peak := np.abs(mono).max()) > 0:
        mono = mono / peak
    mel = librosa.feature.melspectrogram(
        y=mono,
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        n_mels=settings.bands,
        fmin=settings.fmin,
        fmax=settings.fmax,
        pad_mode="constant",
    )
    return DB_PER_NAT * np.log(np.maximum(mel, settings.floor))


def noise(seconds: float, rate: int, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.3 * rng.standard_normal((int(seconds * rate), channels))).astype(np.float32)


def a_clip(tree: Path) -> Path:
    return sorted((tree / "IRMAS-TrainingData" / "pia").glob("*.wav"))[0]


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, LogMelSettings(bands=64, fmin=50, fmax=8_000, n_fft=2_048, hop_length=441)],
    ids=["default", "other"],
)
def test_agrees_with_librosa_on_a_rendered_clip(tree: Path, settings: LogMelSettings) -> None:
    samples, rate = soundfile.read(a_clip(tree))
    expected = reference(samples, rate, settings)
    ours = DB_PER_NAT * log_mel(a_clip(tree), settings).astype(np.float32)
    assert ours.shape == expected.shape
    difference = np.abs(ours - expected)[expected > expected.max() - 80]
    # float16 of a natural logarithm up to 16 is good to 0.017 dB.
    assert np.median(difference) < 0.01
    assert np.quantile(difference, 0.999) < 0.05


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
@pytest.mark.parametrize("samples", [4, 511, 22_051])
def test_has_librosas_frame_count(rate: int, samples: int) -> None:
    audio = noise(1.1 * samples / rate + 1e-3, rate)[:samples]
    expected = reference(audio, rate, SETTINGS)
    assert log_mel(audio, SETTINGS, rate).shape == expected.shape


def test_a_path_and_an_array_give_the_same_spectrogram(tree: Path) -> None:
    samples, rate = read_audio(a_clip(tree))
    assert samples.dtype == np.int16
    from_path = log_mel(a_clip(tree), SETTINGS)
    np.testing.assert_array_equal(log_mel(samples, SETTINGS, rate), from_path)
    as_float = samples.astype(np.float32) / 32_768
    np.testing.assert_allclose(log_mel(as_float, SETTINGS, rate), from_path, atol=0.02)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_reads_every_sample_format(tmp_path: Path, subtype: str) -> None:
    time = np.arange(22_050) / 22_050
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.wav", tone, 22_050, subtype=subtype)
    mel = log_mel(tmp_path / "a.wav", SETTINGS)
    expected = log_mel(tone.astype(np.float32), SETTINGS, 22_050)
    loud = expected > expected.max() - 3
    np.testing.assert_allclose(mel[loud], expected[loud], atol=0.05)


def test_a_long_file_is_the_same_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = noise(3, 22_050, 1)
    whole = log_mel(audio, SETTINGS, 22_050)
    monkeypatch.setattr("irmas_dist.features.logmel.BLOCK_FRAMES", 7)
    np.testing.assert_allclose(log_mel(audio, SETTINGS, 22_050), whole, atol=0.01)


def test_level_does_not_matter_when_peak_normalised() -> None:
    audio = noise(1, 22_050)
    np.testing.assert_allclose(
        log_mel(audio / 8, SETTINGS, 22_050), log_mel(audio, SETTINGS, 22_050), atol=0.02
    )
    plain = SETTINGS.model_copy(update={"peak_normalise": False})
    quieter = log_mel(audio / 8, plain, 22_050).astype(float)
    louder = log_mel(audio, plain, 22_050).astype(float)
    assert np.median(louder - quieter) == pytest.approx(2 * np.log(8), abs=0.02)


def test_silence_is_the_floor_everywhere() -> None:
    mel = log_mel(np.zeros(22_050, np.float32), SETTINGS, 22_050)
    np.testing.assert_allclose(mel, SETTINGS.log_floor, atol=0.01)


def test_what_is_no_audio_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), 44_100)
    broken = np.zeros(100, np.float32)
    broken[50] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, 44_100, subtype="FLOAT")
    for name, reason in {
        "text.wav": "cannot be decoded",
        "empty.wav": "holds no samples",
        "nan.wav": "NaN or infinite",
        "missing.wav": "no such file",
    }.items():
        with pytest.raises(AudioError, match=reason):
            log_mel(tmp_path / name, SETTINGS)

"""Audio of any format is decoded whole, or refused with the reason."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.config.features import LogMelSettings
from irmas_dist.features.audio import AudioError, open_audio, read_audio, read_blocks, to_mono
from irmas_dist.features.logmel import log_mel

BACKENDS = [LogMelSettings(backend="fast"), LogMelSettings(backend="librosa")]


def noise(seconds: float, rate: int, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.3 * rng.standard_normal((int(seconds * rate), channels))).astype(np.float32)


@pytest.mark.parametrize(
    ("subtype", "dtype"), [("PCM_U8", np.int16), ("PCM_16", np.int16), ("PCM_24", np.float32)]
)
def test_samples_are_decoded_with_their_rate_and_channels(
    tmp_path: Path, subtype: str, dtype: type
) -> None:
    written = noise(0.1, 8_000, 3)
    soundfile.write(tmp_path / "a.wav", written, 8_000, subtype)
    samples, rate = read_audio(tmp_path / "a.wav")
    assert (samples.shape, samples.dtype, rate) == ((800, 3), dtype, 8_000)
    full_scale = 32_768 if dtype == np.int16 else 1
    np.testing.assert_allclose(samples / full_scale, written.clip(-1, 1), atol=0.01)


def test_blocks_join_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1, 8_000), 8_000)
    whole, _ = read_audio(tmp_path / "a.wav")
    monkeypatch.setattr("irmas_dist.features.audio.BLOCK_SAMPLES", 3_000)
    with open_audio(tmp_path / "a.wav") as file:
        blocks = list(read_blocks(file))
    assert [len(block) for block in blocks] == [3_000, 3_000, 2_000]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_channels_are_averaged_or_the_first_is_taken(dtype: type) -> None:
    full_scale = 32_768 if dtype == np.int16 else 1
    samples = (np.array([[0.5, -0.25], [0.25, 0.75]]) * full_scale).astype(dtype)
    assert to_mono(samples, "mean").tolist() == [0.125, 0.5]
    assert to_mono(samples, "first").tolist() == [0.5, 0.25]
    assert to_mono(samples[:, 0], "mean").tolist() == [0.5, 0.25]


def test_unusable_audio_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "nothing.wav").touch()
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), 44_100)
    for name, value in {"nan": np.nan, "infinite": -np.inf}.items():
        broken = noise(1, 44_100)
        broken[50, 1] = value
        for subtype in ("FLOAT", "DOUBLE"):
            soundfile.write(tmp_path / f"{name} {subtype}.wav", broken, 44_100, subtype)
    for name, reason in {
        "text.wav": "cannot be decoded",
        "nothing.wav": "cannot be decoded",
        "empty.wav": "holds no samples",
        "nan FLOAT.wav": "NaN or infinite",
        "nan DOUBLE.wav": "NaN or infinite",
        "infinite FLOAT.wav": "NaN or infinite",
        "infinite DOUBLE.wav": "NaN or infinite",
        "missing.wav": "no such file",
    }.items():
        for settings in BACKENDS:
            with pytest.raises(AudioError, match=reason):
                log_mel(tmp_path / name, settings)
    for settings in BACKENDS:
        with pytest.raises(AudioError, match="holds no samples"):
            log_mel(np.zeros((0, 2), np.int16), settings, 44_100)
        with pytest.raises(AudioError, match="needs its sample rate"):
            log_mel(np.zeros(9, np.int16), settings)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAVEX", "FLOAT"),
        ("W64", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_a_truncated_file_is_refused(
    tmp_path: Path, container: str, subtype: str, share: float
) -> None:
    path = tmp_path / "a"
    soundfile.write(path, noise(2, 44_100), 44_100, subtype, format=container)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        AudioError, match=r"is truncated: its (header announces [12]\.\d\d s|last page)|decoded"
    ):
        read_audio(path)


def test_a_wav_file_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1, 44_100), 44_100)
    content = (tmp_path / "a.wav").read_bytes()
    at = content.index(b"data") + 4
    (tmp_path / "piped.wav").write_bytes(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])
    piped, _ = read_audio(tmp_path / "piped.wav")
    whole, _ = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(piped, whole)

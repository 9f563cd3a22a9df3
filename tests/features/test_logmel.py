"""The front end gives librosa's numbers, for any signal and source."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import AudioFile, read_audio
from irmas_dist.corpus.mixdown import SILENCE, SILENT
from irmas_dist.errors import AudioError
from irmas_dist.features.logmel import LogMel, log_mel, log_mel_blocks

SETTINGS = LogMelSettings(n_fft=1_024, hop_length=512, bands=128)

# Results are compared as float32: rounding to float16 would hide small differences, or turn
# them into large ones.
OTHERS = {
    "default": {},
    "Han et al.": {"n_fft": 1_024, "hop_length": 512, "bands": 128},
    "htk": {"mel_scale": "htk", "bands": 64, "fmin": 50, "fmax": 8_000},
    "low floor": {"floor": 1e-10, "peak_normalise": False},
    "magnitude": {"power": 1, "floor": 1e-4},
    "power 1.5": {"power": 1.5, "window": "hamming", "downmix": "first"},
    "long frames": {"n_fft": 4_096, "hop_length": 441, "window": "blackman"},
    "hop of a frame": {"n_fft": 512, "hop_length": 512, "window": "bartlett", "bands": 40},
    "odd frames": {"n_fft": 1_001, "hop_length": 333, "sample_rate": 16_000},
    "higher rate": {"sample_rate": 48_000, "n_fft": 2_048, "hop_length": 1_024},
}


def settings_of(name: str) -> LogMelSettings:
    return LogMelSettings.model_validate({**OTHERS[name], "dtype": "float32"})


EXACT = settings_of("Han et al.")


def reference(settings: LogMelSettings) -> LogMelSettings:
    return settings.model_copy(update={"backend": "librosa"})


def assert_agree(ours: LogMel, expected: LogMel, settings: LogMelSettings) -> None:
    """Frame for frame, and to 0.01 dB (median) and 0.05 dB (99.9 %) within 80 dB of the peak."""
    assert ours.shape == expected.shape
    assert np.isfinite(ours).all()
    decibels = 10 * np.log10(np.e) * settings.log_power_per_unit
    a, b = decibels * ours.astype(float), decibels * expected.astype(float)
    difference = np.abs(a - b)[b > b.max() - 80]
    if difference.size:
        assert np.median(difference) < 0.01
        assert np.quantile(difference, 0.999) < 0.05


def noise(seconds: float, rate: int, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.3 * rng.standard_normal((int(seconds * rate), channels))).astype(np.float32)


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * 997 * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def clicks(rate: int) -> np.ndarray:
    signal = np.zeros(rate, np.float32)
    signal[:: rate // 7] = 1
    return signal


SIGNALS = {
    "silence": lambda rate: np.zeros(rate, np.float32),
    "full-scale sine": tone,
    "square wave beyond 1 once resampled": lambda rate: np.sign(tone(rate)),
    "float beyond 1": lambda rate: 40 * tone(rate),
    "nearly nothing": lambda rate: 1e-6 * tone(rate),
    "clicks": clicks,
    "noise": lambda rate: noise(1, rate),
    "offset": lambda rate: noise(1, rate) + np.float32(0.5),
}


def a_clip(tree: Path) -> Path:
    return sorted((tree / "IRMAS-TrainingData" / "pia").glob("*.wav"))[0]


@pytest.mark.parametrize("name", OTHERS)
def test_agrees_with_librosa_on_rendered_clips_under_any_settings(tree: Path, name: str) -> None:
    settings = settings_of(name)
    for clip in sorted(tree.rglob("*.wav"))[::12]:
        assert_agree(log_mel(clip, settings), log_mel(clip, reference(settings)), settings)


def test_agrees_with_plain_librosa_code(tree: Path) -> None:
    samples, rate = librosa.load(a_clip(tree), sr=22_050)
    mel = librosa.feature.melspectrogram(
        y=samples / np.abs(samples).max(), sr=rate, n_fft=1_024, hop_length=512
    )
    expected = np.log(np.maximum(mel, 1e-8))
    for backend in ("fast", "librosa"):
        ours = log_mel(a_clip(tree), SETTINGS.model_copy(update={"backend": backend}))
        assert ours.dtype == np.float16
        assert_agree(ours, expected, SETTINGS)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("name", SIGNALS)
def test_agrees_with_librosa_on_hard_signals_at_any_rate(name: str, rate: int) -> None:
    signal = SIGNALS[name](rate)
    for peak_normalise in (True, False):
        settings = EXACT.model_copy(update={"peak_normalise": peak_normalise})
        assert_agree(
            log_mel(signal, settings, rate), log_mel(signal, reference(settings), rate), settings
        )


@pytest.mark.filterwarnings("ignore:n_fft=.* is too large")
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000])
def test_the_frame_count_is_librosas_at_any_length(rate: int) -> None:
    for samples in (1, 2, 3, 511, 512, 513, 1_023, 1_025, 44_099, 45_157):
        for settings in (EXACT, settings_of("odd frames"), settings_of("hop of a frame")):
            audio = noise(1 + samples / rate, rate)[:samples]
            assert_agree(
                log_mel(audio, settings, rate), log_mel(audio, reference(settings), rate), settings
            )


FORMATS = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    ("FLAC", "PCM_S8"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
]


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_agrees_with_librosa_load_in_every_format(
    tmp_path: Path, container: str, subtype: str, channels: int
) -> None:
    if container == "MP3" and channels > 2:
        pytest.skip("MP3 has two channels at most")
    path = tmp_path / f"a.{container.lower()}"
    soundfile.write(path, noise(1.03, 44_100, channels), 44_100, subtype, format=container)
    # By librosa from the file on, so that the decoding is compared as well.
    samples, rate = librosa.load(path, sr=None, mono=False)
    expected = log_mel(samples.T, reference(EXACT), int(rate))
    assert_agree(log_mel(path, EXACT), expected, EXACT)


def test_float_files_are_not_clipped(tmp_path: Path) -> None:
    plain = EXACT.model_copy(update={"peak_normalise": False})
    for subtype in ("FLOAT", "DOUBLE"):
        soundfile.write(tmp_path / "loud.wav", 8 * tone(44_100), 44_100, subtype)
        soundfile.write(tmp_path / "soft.wav", tone(44_100) / 8, 44_100, subtype)
        loud, soft = (log_mel(tmp_path / f"{name}.wav", plain) for name in ("loud", "soft"))
        audible = soft > soft.max() - 10
        np.testing.assert_allclose((loud - soft)[audible], 2 * np.log(64), atol=1e-3)
        normalised = log_mel(tmp_path / "loud.wav", EXACT)
        np.testing.assert_allclose(log_mel(tmp_path / "soft.wav", EXACT), normalised, atol=1e-3)


def test_a_path_and_an_array_give_the_same_spectrogram(tree: Path) -> None:
    samples, rate = read_audio(a_clip(tree))
    assert samples.dtype == np.int16
    from_path = log_mel(a_clip(tree), SETTINGS)
    np.testing.assert_array_equal(log_mel(samples, SETTINGS, rate), from_path)
    as_float = samples.astype(np.float32) / 32_768
    before = as_float.copy()
    np.testing.assert_allclose(log_mel(as_float, SETTINGS, rate), from_path, atol=0.02)
    np.testing.assert_array_equal(as_float, before)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("block", [1, 700, 30_001])
@pytest.mark.parametrize("name", ["default", "long frames", "odd frames", "magnitude"])
def test_a_long_file_is_the_same_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, block: int, name: str
) -> None:
    settings = settings_of(name)
    # Increasingly loud, so that every block has another peak; 0.1 s only if blocks are tiny.
    seconds = 0.1 if block == 1 else 2.003
    audio = noise(seconds, rate) * np.linspace(0, 1, int(seconds * rate))[:, None]
    soundfile.write(tmp_path / "long.wav", audio, rate, "FLOAT")
    whole = log_mel(tmp_path / "long.wav", settings)
    monkeypatch.setattr("irmas_dist.corpus.audio.BLOCK_SAMPLES", block)
    monkeypatch.setattr("irmas_dist.features.logmel.BATCH_SAMPLES", 3 * settings.n_fft)
    assert_agree(log_mel(tmp_path / "long.wav", settings), whole, settings)


def test_pieces_join_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = noise(3, 44_100)
    audio[:44_100] /= 10
    soundfile.write(tmp_path / "a.wav", audio, 44_100)
    monkeypatch.setattr("irmas_dist.corpus.audio.BLOCK_SAMPLES", 10_000)
    level_kept = EXACT.model_copy(update={"peak_normalise": False})
    pieces = list(log_mel_blocks(tmp_path / "a.wav", level_kept))
    assert len(pieces) > 10
    assert_agree(np.hstack(pieces), log_mel(tmp_path / "a.wav", level_kept), level_kept)
    whole = log_mel(tmp_path / "a.wav", EXACT)
    assert_agree(np.hstack(list(log_mel_blocks(tmp_path / "a.wav", EXACT))), whole, EXACT)


@pytest.mark.parametrize("peak_normalise", [True, False])
def test_a_file_that_is_held_in_memory_is_decoded_once_to_the_same_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peak_normalise: bool
) -> None:
    audio = noise(3, 44_100)
    audio[:44_100] /= 10
    soundfile.write(tmp_path / "a.wav", audio, 44_100)
    monkeypatch.setattr("irmas_dist.corpus.audio.BLOCK_SAMPLES", 10_000)
    settings = EXACT.model_copy(update={"peak_normalise": peak_normalise})
    passes: list[object] = []
    blocks = AudioFile.blocks
    monkeypatch.setattr(AudioFile, "blocks", lambda file: passes.append(file) or blocks(file))
    pieces = list(log_mel_blocks(tmp_path / "a.wav", settings))
    for held_s, decoded in ((10.0, 1), (2.0, 2)):
        passes.clear()
        held = list(log_mel_blocks(tmp_path / "a.wav", settings, held_s=held_s))
        assert len(passes) == decoded
        np.testing.assert_array_equal(np.hstack(held), np.hstack(pieces))
    with pytest.raises(AudioError, match="is longer than 1 s"):
        list(log_mel_blocks(tmp_path / "a.wav", settings, longest_s=1))


@pytest.mark.parametrize("name", OTHERS)
def test_silence_is_the_floor_everywhere(name: str) -> None:
    settings = settings_of(name)
    mel = log_mel(np.zeros(22_050, np.float32), settings, 22_050)
    np.testing.assert_allclose(mel, settings.log_floor, rtol=1e-5)


@pytest.mark.parametrize("block", [2**20, 20_000])
@pytest.mark.parametrize("backend", ["fast", "librosa"])
@pytest.mark.parametrize("peak_normalise", [True, False])
def test_a_file_below_the_level_of_silence_is_silent_and_one_that_cancels_has_one_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, backend: str, peak_normalise: bool
) -> None:
    monkeypatch.setattr("irmas_dist.corpus.audio.BLOCK_SAMPLES", block)
    settings = EXACT.model_copy(update={"peak_normalise": peak_normalise, "backend": backend})
    sound, path = tone(44_100, 2), tmp_path / "a.wav"

    def spectrogram(*channels: np.ndarray) -> tuple[LogMel, list[str]]:
        """Return it, checked to be the same in pieces, and what is said of it."""
        soundfile.write(path, np.stack(channels, axis=1), 44_100, "FLOAT")
        said: list[str] = []
        whole = log_mel(path, settings, note=said.append)
        pieces = list(log_mel_blocks(path, settings, said.append))
        assert_agree(np.hstack(pieces), whole, settings)
        assert said[::2] == said[1::2]
        return whole, said[::2]

    for quiet in (0, 0.99 * SILENCE):
        whole, said = spectrogram(quiet * sound, quiet * sound)
        assert said == [SILENT]
        np.testing.assert_allclose(whole, settings.log_floor, rtol=1e-5)
    assert spectrogram(1.01 * SILENCE * sound)[1] == []
    alone, said = spectrogram(sound)
    assert said == []
    whole, said = spectrogram(-0.99 * sound, sound)
    assert said == ["its channels cancel each other: the louder, channel 2, is used"]
    assert_agree(whole, alone, settings)


@pytest.mark.parametrize("name", OTHERS)
def test_a_stored_value_is_turned_into_power(name: str) -> None:
    settings = settings_of(name).model_copy(update={"peak_normalise": False})
    louder, softer = (log_mel(level * tone(22_050), settings, 22_050) for level in (1.0, 0.5))
    audible = softer > softer.max() - 3 / settings.log_power_per_unit
    nepers = settings.log_power_per_unit * (louder - softer)[audible]
    np.testing.assert_allclose(nepers, 2 * np.log(2), rtol=1e-3)


@pytest.mark.parametrize("rate", [22_050, 44_100])
@pytest.mark.parametrize("faint", [1e-28, 1e-31, 1e-39, 1e-44, 0.0])
def test_audio_that_begins_with_next_to_nothing_has_numbers(
    tmp_path: Path, faint: float, rate: int
) -> None:
    """More of it than is decoded at once, so that its peak is divided by before that of the rest.

    The reciprocal of a peak below 3e-39 is no float32.
    """
    lead_in = np.full(2**20 + 99, faint, np.float32)
    tone = np.sin(np.arange(2 * rate, dtype=np.float32) / 9)
    samples = np.concatenate([lead_in, tone])
    soundfile.write(tmp_path / "a.wav", samples, rate, "FLOAT")
    whole = log_mel(samples, EXACT, rate)
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(log_mel(tmp_path / "a.wav", EXACT), whole, atol=1e-3)
    pieces = np.hstack(list(log_mel_blocks(tmp_path / "a.wav", EXACT)))
    np.testing.assert_allclose(pieces, whole, atol=1e-3)

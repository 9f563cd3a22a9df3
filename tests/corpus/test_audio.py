"""Audio of any format is decoded whole, or refused with the reason."""

import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irmas_dist import storage
from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import decoding, open_audio, read_audio
from irmas_dist.errors import AudioError, UnknownFormatError
from irmas_dist.features.logmel import log_mel
from tests.corpus.formats import WRITTEN, content, without_tag

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
    monkeypatch.setattr("irmas_dist.corpus.audio.BLOCK_SAMPLES", 3_000)
    with open_audio(tmp_path / "a.wav") as file:
        blocks = list(file.blocks())
        assert file.samples == 8_000
        again = list(file.blocks())
    assert [len(block) for block in blocks] == [3_000, 3_000, 2_000]
    np.testing.assert_array_equal(np.concatenate(again), whole)
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_blocks_of_many_channels_have_no_more_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file of silence in 255 channels took gigabytes."""
    soundfile.write(tmp_path / "a.wav", noise(1, 8_000, 6), 8_000)
    monkeypatch.setattr("irmas_dist.corpus.audio.BLOCK_SAMPLES", 3_000)
    with open_audio(tmp_path / "a.wav") as file:
        assert {len(block) for block in file.blocks()} == {1_000}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(WRITTEN)),
    st.floats(0, 0.45),
    st.none() | st.floats(0.01, 0.5),
    st.booleans(),
)
def test_a_span_is_that_part_of_the_whole(
    tmp_path: Path, name: str, start: float, length: float | None, tagged: bool
) -> None:
    (tmp_path / name).write_bytes(content(name) if tagged else without_tag(content("a.mp3")))
    whole, rate = read_audio(tmp_path / name)
    end = None if length is None else min(start + length, len(whole) / rate)
    with open_audio(tmp_path / name, (start, end)) as file:
        span = np.concatenate(list(file.blocks()))
        again = np.concatenate(list(file.blocks()))
    stop = None if end is None else round(end * rate)
    np.testing.assert_array_equal(span, whole[round(start * rate) : stop])
    np.testing.assert_array_equal(again, span)


LONG = [("MP3", None), ("OGG", "VORBIS"), ("FLAC", None), ("WAV", "PCM_16")]


@pytest.mark.parametrize("form", LONG)
@pytest.mark.parametrize("samples", [500, 4_096])
def test_a_file_is_the_same_in_blocks_of_any_length(
    tmp_path: Path, form: tuple[str, str | None], samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first samples of an MP3's later blocks were wrong at 22,050 Hz."""
    soundfile.write(tmp_path / "a", noise(5, 22_050, 1), 22_050, form[1], format=form[0])
    whole, _ = read_audio(tmp_path / "a")
    assert len(whole) == 5 * 22_050
    monkeypatch.setattr("irmas_dist.corpus.audio.BLOCK_SAMPLES", samples)
    np.testing.assert_allclose(read_audio(tmp_path / "a")[0], whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", LONG)
def test_a_span_of_a_long_file_begins_at_its_sample(
    tmp_path: Path, form: tuple[str, str | None]
) -> None:
    soundfile.write(tmp_path / "a", noise(20, 22_050, 1), 22_050, form[1], format=form[0])
    whole, rate = read_audio(tmp_path / "a")
    starts = np.random.default_rng(1).uniform(0, 20, 20)
    with open_audio(tmp_path / "a") as file:
        for start in (*starts, 0.05, 1.0, 3.3, 8.0, 12.0, 15.0, 19.0, 19.8, 19.9, 19.98, 19.999):
            file.select((start, min(start + 0.5, 20.0)))
            span = np.concatenate(list(file.blocks()))
            wanted = whole[round(start * rate) : round(min(start + 0.5, 20.0) * rate)]
            np.testing.assert_allclose(span, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoding", ["GSM610", "G721_32", "NMS_ADPCM_16"])
def test_encodings_in_which_no_place_can_be_found_are_read(tmp_path: Path, encoding: str) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1, 8_000, 1), 8_000, encoding)
    whole, _ = read_audio(tmp_path / "a.wav")
    assert len(whole) >= 8_000
    with open_audio(tmp_path / "a.wav", (0.25, 0.5)) as file:
        for _ in range(2):
            np.testing.assert_array_equal(np.concatenate(list(file.blocks())), whole[2_000:4_000])


def test_a_span_after_one_that_could_not_be_decoded_is_right(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-4_000, 4_000, (20_000, 1), np.int16)
    soundfile.write(tmp_path / "a.flac", noise, 2_000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    (tmp_path / "a.flac").write_bytes(content)
    with open_audio(tmp_path / "a.flac") as file:
        for start, stop in ((4, 6), (9, 10), (4, 6), (0, 1), (4, 6), (8, 9)):
            file.select((start, stop))
            if start == 4:
                with pytest.raises(AudioError, match="lost sync"), decoding():
                    list(file.blocks())
            else:
                decoded = np.concatenate(list(file.blocks()))
                np.testing.assert_array_equal(decoded, noise[start * 2_000 : stop * 2_000])


def test_a_span_beyond_the_end_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1, 8_000), 8_000)
    for span, reason in {
        (0.5, 1.5): r"its span ends at 1.50 s, but the file ends after 1.00 s",
        (2.0, 3.0): r"its span ends at 3.00 s",
        (1.0, None): r"its span begins at 1.00 s, but the file ends after 1.00 s",
        (100.0, None): r"its span begins at 100.00 s, but the file ends after 1.00 s",
        (100.0, 101.0): r"its span ends at 101.00 s, but the file ends after 1.00 s",
        (0.5, 0.50001): r"its span has no samples",
    }.items():
        with pytest.raises(AudioError, match=reason), open_audio(tmp_path / "a.wav", span) as file:
            list(file.blocks())


def test_an_unknown_format_is_told_from_a_damaged_file(tmp_path: Path) -> None:
    whole = content("a.flac")
    refused = {}
    for name, written in {"text": b"no audio", "half": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(written)
        with pytest.raises(AudioError, match="cannot be decoded") as error:
            read_audio(tmp_path / name)
        refused[name] = error.type
    assert refused == {"text": UnknownFormatError, "half": AudioError}


@pytest.mark.filterwarnings("error")
def test_unusable_audio_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "nothing.wav").touch()
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), 44_100)
    for name, value in {"nan": np.nan, "infinite": -np.inf, "loud": -2e20}.items():
        broken = noise(1, 44_100)
        broken[50, 1] = value
        for subtype in ("FLOAT", "DOUBLE"):
            soundfile.write(tmp_path / f"{name} {subtype}.wav", broken, 44_100, subtype)
    for name, reason in {
        "text.wav": "cannot be decoded",
        "nothing.wav": "empty file",
        "empty.wav": "holds no samples",
        "nan FLOAT.wav": "NaN or infinite",
        "nan DOUBLE.wav": "NaN or infinite",
        "infinite FLOAT.wav": "NaN or infinite",
        "infinite DOUBLE.wav": "NaN or infinite",
        "loud FLOAT.wav": r"holds samples 1e\+20 times as large as full scale",
        "loud DOUBLE.wav": r"holds samples 1e\+20 times as large as full scale",
        "missing.wav": "no such file",
    }.items():
        for backend in BACKENDS:
            with pytest.raises(AudioError, match=reason):
                log_mel(tmp_path / name, backend)
    for backend in BACKENDS:
        with pytest.raises(AudioError, match="holds no samples"):
            log_mel(np.zeros((0, 2), np.int16), backend, 44_100)
        with pytest.raises(AudioError, match="needs its sample rate"):
            log_mel(np.zeros(9, np.int16), settings)


@pytest.mark.parametrize("container", ["NIST", "VOC", "PAF", "SVX"])
def test_a_format_whose_end_is_not_known_is_refused(tmp_path: Path, container: str) -> None:
    soundfile.write(tmp_path / "a", noise(0.1, 8_000, 1), 8_000, "PCM_16", format=container)
    with pytest.raises(AudioError, match=f"is {container}, of which it cannot be known whether"):
        read_audio(tmp_path / "a")


def test_a_coding_in_which_damage_is_not_seen_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a", noise(0.1, 8_000, 1), 8_000, "ALAC_16", format="CAF")
    with pytest.raises(AudioError, match="is CAF with ALAC, of which it cannot be known whether"):
        read_audio(tmp_path / "a")


def test_a_file_of_an_object_store_is_that_on_disk(tmp_path: Path, bucket: str) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(1, 44_100), 44_100)
    with storage.write_atomically(f"{bucket}/a.flac") as stream:
        stream.write(path.read_bytes())
    np.testing.assert_array_equal(read_audio(f"{bucket}/a.flac")[0], read_audio(path)[0])
    with pytest.raises(AudioError, match="no such file"):
        read_audio(f"{bucket}/missing.flac")


def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", tmp_path, Path(os.devnull)):
        with pytest.raises(AudioError, match="cannot be read: not a file"):
            read_audio(path)


@pytest.mark.parametrize("rate", [8, 999, 1_000_001, 2**31 - 1])
def test_a_header_with_the_rate_of_no_audio_is_refused(tmp_path: Path, rate: int) -> None:
    """What is resampled from 8 Hz is thousands of times as long."""
    soundfile.write(tmp_path / "a.wav", noise(1, 8_000, 1), 8_000)
    written = bytearray((tmp_path / "a.wav").read_bytes())
    written[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(written)
    with pytest.raises(AudioError, match=f"has a sample rate of {rate:,} Hz by its header"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(("channels", "is_read"), [(2, True), (8, False)])
def test_many_channels_of_a_high_rate_count_as_long_audio(
    tmp_path: Path, channels: int, is_read: bool
) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros((96_000, channels), np.int16), 96_000)
    refused = pytest.raises(AudioError, match=r"more samples than 1\.5 s of two channels")
    with (
        nullcontext() if is_read else refused,
        open_audio(tmp_path / "a.flac", longest_s=1.5) as file,
    ):
        assert sum(map(len, file.blocks())) == 96_000

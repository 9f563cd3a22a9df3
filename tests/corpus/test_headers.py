"""Headers: any format is read, and a truncated WAV is recognised."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.corpus.headers import read_header
from tests.corpus.trees import wav


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (96_000, 6)])
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
def test_rates_widths_and_channels_are_no_problem(
    tmp_path: Path, subtype: str, rate: int, channels: int, form: str
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((rate // 10, channels)), rate, subtype, format=form)
    found = read_header(path)
    assert found.problem is None
    assert (found.duration_s, found.sample_rate, found.channels) == (0.1, rate, channels)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.aiff", "a.au"])
def test_other_formats_are_no_problem(tmp_path: Path, name: str) -> None:
    found = read_header(wav(tmp_path / name))
    assert found.problem is None
    assert found.sample_rate == 44_100


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_a_wav_with_too_little_audio_is_truncated(tmp_path: Path, endian: str) -> None:
    path = wav(tmp_path / "a.wav", subtype="PCM_16", endian=endian)
    whole = path.read_bytes()
    path.write_bytes(whole[:-2_000])
    assert read_header(path).problem == "truncated: has 2,000 of 4,000 bytes of audio"
    assert read_header(path).md5 is not None
    path.write_bytes(whole[:-4_000])
    assert read_header(path).problem == "truncated: has 0 of 4,000 bytes of audio"
    path.write_bytes(whole[:-20])
    assert read_header(path).problem is None  # a twentieth of a millisecond
    path.write_bytes(whole + b"LIST\4\0\0\0INFO" + bytes(99))
    assert read_header(path).problem is None


def test_a_wav_from_a_pipe_is_not_truncated(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", subtype="PCM_16")
    whole = path.read_bytes()
    at = whole.index(b"data") + 4
    path.write_bytes(whole[:at] + struct.pack("<I", 0xFFFFFFFF) + whole[at + 4 :])
    found = read_header(path)
    assert found.problem is None
    assert found.duration_s == pytest.approx(2_000 / 44_100)

"""Facts: any format is read to its end, and what is wrong or unusual of it is said."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.corpus import audio
from irmas_dist.corpus.audio import AudioFile
from irmas_dist.corpus.containers import Readable
from irmas_dist.corpus.facts import read_facts, read_spans
from irmas_dist.corpus.mixdown import SILENT
from tests.corpus.formats import RATE, SECONDS, WRITTEN, content, without_tag
from tests.corpus.trees import wav


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (96_000, 6)])
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
def test_rates_widths_and_channels_are_no_problem(
    tmp_path: Path, subtype: str, rate: int, channels: int, form: str
) -> None:
    path = tmp_path / "a.wav"
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (rate // 10, channels))
    soundfile.write(path, noise, rate, subtype, format=form)
    found = read_facts(path)
    assert (found.problem, found.note) == (None, None)
    assert (found.duration_s, found.sample_rate, found.channels) == (0.1, rate, channels)


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_formats_are_no_problem(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content(name))
    found = read_facts(path)
    assert (found.problem, found.note) == (None, None)
    assert found.sample_rate == RATE
    assert found.duration_s == pytest.approx(SECONDS, abs=0.03)
    assert (found.bytes, found.md5) == (len(content(name)), hashlib.md5(content(name)).hexdigest())


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_a_wav_with_too_little_audio_is_truncated(tmp_path: Path, endian: str) -> None:
    path = wav(tmp_path / "a.wav", subtype="PCM_16", endian=endian)
    whole = path.read_bytes()
    path.write_bytes(whole[:-2_000])
    found = read_facts(path)
    assert found.problem == "is truncated: its header announces 0.05 s, but it ends after 0.02 s"
    assert found.md5 is not None
    assert found.duration_s == pytest.approx(1_000 / 44_100)
    path.write_bytes(whole[:-4_000])
    assert read_facts(path).problem == "is truncated: it has none of 4,000 bytes of audio"
    path.write_bytes(whole[:-20])
    assert read_facts(path).problem is None  # a quarter of a millisecond
    path.write_bytes(whole + b"LIST\4\0\0\0INFO" + bytes(99))
    assert read_facts(path).problem is None


def test_what_is_no_audio_has_what_is_known_of_it(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("words")
    assert read_facts(tmp_path / "missing.wav").problem == "no such file"
    assert read_facts(tmp_path).problem == "cannot be read: not a file"
    empty, text = (read_facts(tmp_path / name) for name in ("empty.wav", "text.wav"))
    assert (empty.problem, empty.bytes) == ("empty file", 0)
    assert (text.problem, text.bytes) == ("cannot be decoded: Format not recognised", 5)


def test_silence_and_channels_that_cancel_are_noted(tmp_path: Path) -> None:
    tone = np.sin(np.arange(8_000) / 9) / 2
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 8_000)
    soundfile.write(tmp_path / "opposite.wav", np.stack([tone, -tone], 1), 8_000, "FLOAT")
    silent, opposite = (read_facts(tmp_path / f"{name}.wav") for name in ("silent", "opposite"))
    assert (silent.problem, silent.note, silent.duration_s) == (None, SILENT, 1)
    assert opposite.note == "its channels cancel each other: the louder, channel 1, is used"
    assert (opposite.problem, opposite.duration_s) == (None, 1)


def test_a_time_of_change_beyond_64_bits_is_none(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(8_000) / 2, 8_000)
    os.utime(tmp_path / "a.wav", ns=(0, 10**19))
    if (tmp_path / "a.wav").stat().st_mtime_ns < 2**63:
        pytest.skip("this file system keeps no such time")
    found = read_facts(tmp_path / "a.wav")
    assert (found.problem, found.modified_ns) == (None, None)


@pytest.mark.parametrize(("name", "tagged"), [("a.mp3", True), ("a.mp3", False), ("a.flac", True)])
def test_a_file_is_decoded_once_for_itself_and_once_for_all_its_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tagged: bool
) -> None:
    whole = content(name, 2.0)
    # Of an MP3 without a tag no place is known but by decoding all before it.
    (tmp_path / name).write_bytes(whole if tagged else without_tag(whole))
    spans = [(start / 10, (start + 1) / 10) for start in range(20)]
    apart = [read_spans(tmp_path / name, [span])[0] for span in spans]
    opened: list[str] = []
    decoded: list[int] = []
    check, read = audio.checked, AudioFile._read

    def checked(path: str) -> Readable:
        opened.append(path)
        return check(path)

    def counted(file: AudioFile, most: float, dtype: str) -> np.ndarray:
        block = read(file, most, dtype)
        decoded.append(len(block))
        return block

    monkeypatch.setattr(audio, "checked", checked)
    monkeypatch.setattr(AudioFile, "_read", counted)
    assert read_spans(tmp_path / name, spans[::-1]) == apart[::-1]
    assert len(opened) == 2
    assert sum(decoded) <= 2 * 2.1 * RATE

"""Audio of any format, rate and number of channels, from files, folders and pipes."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.inference.predictor import Predictor
from tests.inference.conftest import Irmas, predictions


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", "PCM_16"),
        ("wav", "PCM_24"),
        ("wav", "FLOAT"),
        ("flac", "PCM_16"),
        ("aiff", "PCM_16"),
        ("ogg", "VORBIS"),
        ("mp3", "MPEG_LAYER_III"),
    ],
)
def test_any_format(
    irmas: Irmas, model: Path, excerpts: list[Path], predictor: Predictor, tmp_path: Path,
    suffix: str, subtype: str,
) -> None:  # fmt: skip
    samples, rate = soundfile.read(excerpts[0], dtype="int16")
    soundfile.write(tmp_path / f"a.{suffix}", samples, rate, subtype)
    (prediction,) = predictions(irmas("predict", model, f"a.{suffix}", "--json"))
    decoded, _ = soundfile.read(tmp_path / f"a.{suffix}", dtype="float32")
    assert prediction["path"] == f"a.{suffix}"
    assert prediction["scores"] == pytest.approx(predictor(decoded, rate), abs=1e-3)
    assert prediction["instruments"] == predictor.decide(prediction["scores"])


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (22_050, 2), (48_000, 1), (96_000, 6)])
def test_any_rate_and_number_of_channels(
    irmas: Irmas, model: Path, predictor: Predictor, tmp_path: Path, rate: int, channels: int
) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * rate) / rate).astype(np.float32) / 2
    soundfile.write(tmp_path / "a.wav", np.stack([tone] * channels, axis=1), rate, "FLOAT")
    (prediction,) = predictions(irmas("predict", model, "a.wav", "--json"))
    assert prediction["scores"] == pytest.approx(predictor(tone, rate), abs=1e-3)


def test_folders_are_searched_for_audio(irmas: Irmas, model: Path, folder: Path) -> None:
    found = predictions(irmas("predict", model, "music", "--json"), code=1)
    assert [each["path"] for each in found] == [
        "music/a.wav", "music/b/b [live].wav", "music/b/bad.flac",
    ]  # fmt: skip
    again = predictions(irmas("predict", model, "music/a.wav", "music", "music/a.wav", "--json"), 1)
    assert again == found


def test_a_corrupt_file_has_its_error_and_the_others_their_scores(
    irmas: Irmas, model: Path, folder: Path, predictor: Predictor
) -> None:
    names = ["music/b/bad.flac", "missing.wav", "music/a.wav"]
    ended = irmas("predict", model, *names, "--json")
    bad, missing, good = predictions(ended, code=1)
    assert bad["error"].startswith("cannot be decoded: ")
    assert missing == {"path": "missing.wav", "error": "no such file"}
    assert good["scores"] == pytest.approx(predictor.file("music/a.wav"))
    assert "missing.wav: no such file\n" in ended[2]
    code, out, err = irmas("predict", model, *names)
    assert code == 1
    assert "music/a.wav" in out
    assert f"music/b/bad.flac: {bad['error']}\n" in err


def piped(model: Path, content: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "irmas_dist", "predict", str(model), "-", *arguments],
        input=content,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_standard_input_is_an_audio_file(
    model: Path, excerpts: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    content = bytearray(excerpts[0].read_bytes())
    # The header that ffmpeg writes into a pipe, which has no length.
    content[4:8] = b"\xff" * 4
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff" * 4
    done = piped(model, bytes(content), "--json")
    (prediction,) = predictions((done.returncode, done.stdout.decode(), done.stderr.decode()))
    assert prediction["path"] == "-"
    assert prediction["scores"] == pytest.approx(predictor.file(excerpts[0]))


def test_standard_input_that_is_no_audio(model: Path) -> None:
    done = piped(model, b"words")
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.decode().startswith("-: cannot be decoded: ")


def test_a_named_pipe_is_read_once(
    irmas: Irmas, model: Path, excerpts: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    content = excerpts[0].read_bytes()
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
    writer.start()
    (prediction,) = predictions(irmas("predict", model, "pipe", "--json"))
    writer.join()
    assert prediction["scores"] == pytest.approx(predictor.file(excerpts[0]))

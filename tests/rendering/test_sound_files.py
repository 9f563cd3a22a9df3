"""Rendered files: the same bytes for the same audio, and audio that every reader hears."""

import io

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from irmas_dist.rendering.sound_files import encode, wav_bytes
from irmas_dist.rendering.synthesis import Audio


def noise(seconds: float, seed: int = 0) -> Audio:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (2, round(seconds * 44_100))).astype(np.float32)


def test_a_wav_file_has_the_size_that_is_told_beforehand() -> None:
    assert len(encode(noise(1.3), ".wav")) == wav_bytes(1.3)


@settings(max_examples=10)
@given(st.floats(0.01, 3.0), st.integers(0, 99))
def test_an_ogg_file_is_heard_whole_and_always_the_same(seconds: float, seed: int) -> None:
    audio = noise(seconds, seed)
    data = encode(audio, ".ogg")
    assert data == encode(audio, ".ogg")
    heard, rate = sf.read(io.BytesIO(data))
    assert (heard.shape, rate) == (audio.T.shape, 44_100)
    assert np.corrcoef(heard[:, 0], audio[0])[0, 1] > 0.5


def test_a_page_of_an_ogg_file_with_a_changed_byte_is_not_heard() -> None:
    """The checksums are right: a reader skips pages whose checksum is wrong."""
    data = bytearray(encode(noise(3.0), ".ogg"))
    data[len(data) // 2] ^= 1
    whole = sf.info(io.BytesIO(bytes(encode(noise(3.0), ".ogg")))).frames
    try:
        heard = len(sf.read(io.BytesIO(bytes(data)))[0])
    except sf.LibsndfileError:
        heard = 0
    assert heard < whole == pytest.approx(3 * 44_100)

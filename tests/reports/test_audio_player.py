import base64
import io

import numpy as np
import soundfile

from irmas_dist.reports.audio_player import MAX_SECONDS, RATE, embedded


def decoded(url):
    kind, _, content = url.partition(";base64,")
    assert kind == "data:audio/mpeg"
    return soundfile.read(io.BytesIO(base64.b64decode(content)))


def test_a_page_can_play_what_the_file_holds(tmp_path):
    time = np.arange(2 * 44_100) / 44_100
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "tone.wav", np.stack([tone, tone], axis=1), 44_100)
    samples, rate = decoded(embedded(tmp_path / "tone.wav"))
    assert (rate, samples.ndim) == (RATE, 1)
    assert abs(len(samples) / rate - 2) < 0.2
    spectrum = np.abs(np.fft.rfft(samples[:RATE]))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_long_files_are_shortened_so_that_a_page_stays_small(tmp_path):
    noise = np.random.default_rng(0).normal(size=60 * 22_050) * 0.1
    soundfile.write(tmp_path / "long.wav", noise, 22_050)
    url = embedded(tmp_path / "long.wav")
    assert len(url) < 200_000
    samples, rate = decoded(url)
    assert abs(len(samples) / rate - MAX_SECONDS) < 0.2


def test_what_cannot_be_read_has_no_player(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    assert embedded(tmp_path / "broken.wav") is None
    assert embedded(tmp_path / "missing.wav") is None

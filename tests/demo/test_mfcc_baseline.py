"""The MFCC baseline scores held-out clips, with thresholds from recordings it has not heard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import soundfile

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.demo import mfcc_baseline as module
from irmas_dist.demo.mfcc_baseline import mfcc_baseline, mfcc_means
from irmas_dist.evaluation.thresholds import fit_thresholds

RATE = 22_050
RECORDINGS = 15


@pytest.fixture(autouse=True)
def in_this_process() -> Iterator[None]:
    """Starting other processes takes seconds, which a few clips do not."""
    with joblib.parallel_config("threading"):
        yield


def write_noise(path: Path, seed: int, gains: tuple[float, ...], rate: int = RATE) -> str:
    """Write a fifth of a second of noise with gains of as many parts of the spectrum."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=rate // 5))
    shape = np.repeat(gains, -(-len(spectrum) // len(gains)))[: len(spectrum)]
    samples = np.fft.irfft(spectrum * shape)
    soundfile.write(path, samples / np.abs(samples).max() / 2, rate)
    return str(path)


@pytest.fixture(scope="module")
def dark_and_bright(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Any]:
    """Two clips of each recording, the first dark and the second bright, and their labels."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for recording in range(RECORDINGS):
        for gains in ((1.0, 0.1), (0.1, 1.0)):
            path = write_noise(folder / f"{len(rows)}.wav", len(rows), gains)
            rows.append({"path": path, "group": f"recording {recording}"})
    return rows, np.tile(np.eye(2, dtype=np.uint8), (RECORDINGS, 1))


def test_each_clip_has_a_score_per_instrument(
    dark_and_bright: tuple[list[dict[str, Any]], Any],
) -> None:
    rows, labels = dark_and_bright
    scores, thresholds = mfcc_baseline(rows[:24], labels[:24], rows[24:], ThresholdSettings())
    assert scores.shape == (6, 2)
    assert thresholds.shape == (2,)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_array_equal(scores >= thresholds, labels[24:])


def test_thresholds_are_fitted_to_scores_of_recordings_that_were_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a clip's copies in its recording tell of its labels, which are random, is no skill."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for recording in range(RECORDINGS):
        gains = tuple(rng.uniform(0.01, 1, size=20))
        path = write_noise(tmp_path / f"{recording}.wav", recording, gains)
        rows += [{"path": path, "group": f"recording {recording}"}] * 2
    labels = np.repeat(rng.permuted(np.arange(RECORDINGS) % 2), 2)[:, None].astype(np.uint8)
    labels = np.hstack([labels, 1 - labels])
    fitted: dict[str, np.ndarray] = {}

    def spy(labels: Any, scores: Any, settings: ThresholdSettings) -> Any:
        fitted.update(labels=labels, scores=scores)
        return fit_thresholds(labels, scores, settings)

    monkeypatch.setattr(module, "fit_thresholds", spy)
    scores, _ = mfcc_baseline(rows, labels, rows, ThresholdSettings())
    assert ((scores > 0.5) == labels).all()  # by heart
    assert fitted["scores"].shape == labels.shape
    np.testing.assert_array_equal(fitted["labels"], labels)
    assert ((fitted["scores"] > 0.5) == labels).mean() < 0.75


def test_means_do_not_depend_on_the_rate_of_the_file(tmp_path: Path) -> None:
    means = []
    for rate in (RATE, 2 * RATE):
        tone = np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate) + 0.01 * np.sin(
            2 * np.pi * 3_000 * np.arange(rate // 2) / rate
        )
        soundfile.write(tmp_path / "tone.wav", tone / 4, rate, subtype="FLOAT")
        means.append(mfcc_means(str(tmp_path / "tone.wav")))
    assert means[0].shape == (20,)
    assert means[0].dtype == np.float32
    np.testing.assert_allclose(means[0][:4], means[1][:4], rtol=0.1)

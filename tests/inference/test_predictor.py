"""A saved model gives the scores that it had in training, from samples, files and stores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.evaluation.metrics import evaluate
from irmas_dist.features.logmel import AudioError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.training.checkpoint import describe, pack_weights, save_model
from irmas_dist.training.learner import SELECTED_BY, Learner
from irmas_dist.training.settings import LearnerSettings
from irmas_dist.training.task import Task
from tests.training.conftest import settings, task

__all__ = ["settings", "task"]


@pytest.fixture
def learner(task: Task, settings: LearnerSettings) -> Learner:
    learner = Learner(task, settings)
    while not learner.finished:
        learner.run_epoch()
    return learner


@pytest.fixture
def predictor(learner: Learner, tmp_path: Path) -> Predictor:
    description, validation = describe(learner, {"seed": 0})
    save_model(tmp_path / "model", pack_weights(learner.network), description, validation)
    return Predictor.load(tmp_path / "model")


def noise(seconds: float, rate: int = 22_050, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.uniform(-0.5, 0.5, (int(seconds * rate), channels)).astype(np.float32)


def test_scores_are_those_of_the_best_epoch(learner: Learner, predictor: Predictor) -> None:
    best = learner.history[learner.best_epoch - 1]
    validation = learner.task.validation
    scores = predictor.score_clips(validation)
    results = evaluate(validation.labels, scores, predictor.description.threshold_array())
    assert results["macro_f1"] == pytest.approx(best[SELECTED_BY])
    assert results["map"] == pytest.approx(best["val_map"])


def test_a_file_and_its_samples_have_the_same_scores(predictor: Predictor, tmp_path: Path) -> None:
    samples = noise(2.5, 44_100)
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    from_file = predictor.file(tmp_path / "a.wav")
    assert from_file == predictor(samples, 44_100)
    assert list(from_file) == ["low", "mid", "top"]
    assert all(0 <= score <= 1 for score in from_file.values())


@pytest.mark.parametrize("seconds", [0.01, 0.2, 0.8, 7.3])
def test_audio_of_any_length_has_scores(predictor: Predictor, seconds: float) -> None:
    assert all(np.isfinite(list(predictor(noise(seconds), 22_050).values())))


def test_a_clip_shorter_than_a_window_scores_as_if_silence_followed(
    learner: Learner, predictor: Predictor
) -> None:
    clips = learner.task.training
    short = replace(clips.select([0]), lengths=np.array([5]))
    start = int(short.starts[0])
    padded = np.full((learner.frames, clips.frames.shape[1]), np.float16(np.log(1e-8)))
    padded[:5] = clips.frames[start : start + 5]
    whole = replace(short, frames=padded, starts=np.array([0]), lengths=np.array([learner.frames]))
    np.testing.assert_allclose(
        predictor.score_clips(short), predictor.score_clips(whole), atol=1e-3
    )


def test_an_instrument_plays_when_its_score_reaches_its_threshold(predictor: Predictor) -> None:
    thresholds = predictor.description.thresholds
    exactly = {code: float(np.float32(value)) for code, value in thresholds.items()}
    assert predictor.decide(exactly) == list(thresholds)
    below = {code: float(np.nextafter(np.float32(v), np.float32(0))) for code, v in exactly.items()}
    assert predictor.decide(below) == []


def test_what_is_no_audio_says_why(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        predictor.file(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="holds no samples"):
        predictor(np.zeros((0, 2), np.float32), 44_100)

"""A saved model gives the scores that it had in training, from samples, files and stores."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

from irmas_dist import storage
from irmas_dist.config.decisions import AGGREGATION_RULES
from irmas_dist.config.training import LearnerSettings
from irmas_dist.corpus.mixdown import SILENCE, SILENT
from irmas_dist.errors import AudioError
from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.evaluation.metrics import overall_metrics
from irmas_dist.features import store
from irmas_dist.features.logmel import log_mel
from irmas_dist.features.window_stream import SHORT_NOTE
from irmas_dist.inference import predictor as predictor_module
from irmas_dist.inference.predictor import Predictor, Spectrogram, read_spectrogram
from irmas_dist.instruments import IRMAS
from irmas_dist.training.data import TrainingData
from irmas_dist.training.describe import describe
from irmas_dist.training.learner import SELECTED_BY, Learner
from irmas_dist.training.model_directory import pack_weights, save_model
from irmas_dist.training.precision import available_device
from tests.inference.conftest import MakeModel
from tests.training.conftest import data, settings

__all__ = ["data", "settings"]


@pytest.fixture
def learner(data: TrainingData, settings: LearnerSettings) -> Learner:
    learner = Learner(data, settings)
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
    clips = learner.data.threshold_clips()
    scores = predictor.score_clips(clips)
    results = overall_metrics(clips.labels, scores, predictor.description.threshold_array())
    assert results["macro_f1"] == pytest.approx(predictor.description.scores[SELECTED_BY])
    assert results["map"] == pytest.approx(best["val_map"])


def test_networks_score_without_tf32_and_leave_it_as_it_was(
    learner: Learner, predictor: Predictor
) -> None:
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, seen = convolutions.fp32_precision, list[str]()
    with predictor.network.register_forward_pre_hook(
        lambda module, inputs: seen.append(convolutions.fp32_precision)
    ):
        predictor(noise(3.0), 22_050)
        predictor.score_clips(learner.data.validation)
    assert len(seen) >= 2
    assert set(seen) == {"ieee"}
    assert convolutions.fp32_precision == before


def test_a_gpu_is_used_if_there_is_one(
    model: Path, excerpts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu, chosen = Predictor.load(model, device="cpu"), Predictor.load(model)
    assert chosen.file(excerpts[0]) == pytest.approx(on_cpu.file(excerpts[0]), abs=2e-3)
    assert available_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    # This device takes all that a GPU takes, and has no values.
    monkeypatch.setattr(
        "irmas_dist.inference.predictor.available_device", lambda: torch.device("meta")
    )
    for predictor in (Predictor.load(model), Predictor(on_cpu.description, on_cpu.network)):
        assert {each.device.type for each in predictor.network.parameters()} == {"meta"}
    assert next(Predictor.load(model, device="cpu").network.parameters()).device.type == "cpu"


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
    clips = learner.data.training
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


def test_unusable_audio_is_refused_with_its_reason(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        predictor.file(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="holds no samples"):
        predictor(np.zeros((0, 2), np.float32), 44_100)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 44_100), np.float32), 44_100, r"shape \(2, 44100\) is not .* swap its axes"),
        (np.zeros((1, 8_000), np.float32), 8_000, r"shape \(1, 8000\)"),
        (np.zeros((9, 9, 9), np.float32), 8_000, r"shape \(9, 9, 9\)"),
        (np.float32(0), 8_000, r"shape \(\)"),
        (np.zeros(8_000, np.int32), 8_000, "type int32 are neither int16 nor float"),
        ([0, 1, 2], 8_000, "type int64 are neither"),
        (np.zeros(8_000, np.float32), 0, "a sample rate of 0 is none in Hz"),
        (np.zeros(8_000, np.float32), -8_000, "a sample rate of -8000"),
        (np.zeros(8_000, np.float32), float("nan"), "a sample rate of nan"),
        (np.zeros(8_000, np.float32), "8000", "a sample rate of '8000'"),
        (np.zeros(8_000, np.float32), True, "a sample rate of True"),
        ([[0.0], [0.0, 0.1]], 8_000, "cannot be read as an array of samples: "),
        (torch.zeros(8_000, requires_grad=True), 8_000, "cannot be read as an array of samples: "),
    ],
)
def test_arrays_that_cannot_be_samples_are_refused(
    predictor: Predictor, samples: Any, rate: Any, message: str
) -> None:
    with pytest.raises(AudioError, match=message):
        predictor(samples, rate)


def test_whatever_numpy_takes_for_an_array_is_one(predictor: Predictor) -> None:
    samples = noise(1.0)
    scores = predictor(samples, 22_050)
    assert predictor(torch.from_numpy(samples), 22_050) == scores  # type: ignore[arg-type]
    assert predictor(samples.astype(">f4"), 22_050) == scores
    assert predictor(samples.tolist(), 22_050) == pytest.approx(scores, abs=1e-6)


# Silence


RULES = pytest.mark.parametrize("rule", ["mean", "s2", "han2017", "max"])


@RULES
@pytest.mark.parametrize("peak_normalise", [True, False])
@pytest.mark.parametrize("seconds", [0.2, 3, 30])
def test_silence_has_no_instrument(
    make_model: MakeModel, tmp_path: Path, rule: str, peak_normalise: bool, seconds: float
) -> None:
    predictor = Predictor.load(make_model({"peak_normalise": peak_normalise}, aggregation=rule))
    quiet = noise(seconds)
    quiet *= SILENCE / np.abs(quiet.mean(axis=1)).max()
    for level, silent in ((0, True), (0.999, True), (1.001, False)):
        samples = np.float32(level) * quiet
        soundfile.write(tmp_path / "a.wav", samples, 22_050, "FLOAT")
        timeline = predictor.timeline(tmp_path / "a.wav")
        assert timeline.note == (SILENT if silent else SHORT_NOTE if seconds == 0.2 else None)
        assert timeline.windows.any(axis=1).tolist() == [not silent] * len(timeline.windows)
        assert any(timeline.scores.values()) == (not silent)
        assert any(predictor(samples, 22_050).values()) == (not silent)
        if silent:
            assert predictor.decide(timeline.scores) == []


@RULES
def test_silence_beside_music_changes_neither_its_scores_nor_its_instruments(
    make_model: MakeModel, excerpts: list[Path], tmp_path: Path, rule: str
) -> None:
    predictor = Predictor.load(make_model(aggregation=rule, hop_frames=43))
    window = 43 * 512
    music, rate = soundfile.read(excerpts[0])
    music = soxr.resample(music.mean(axis=1), rate, 22_050)[: 4 * window]
    alone = predictor(music.astype(np.float32), 22_050)
    silence = np.zeros(18 * window)
    soundfile.write(tmp_path / "a.wav", np.concatenate([silence, music, silence]), 22_050, "FLOAT")
    timeline = predictor.timeline(tmp_path / "a.wav")
    heard = timeline.windows.any(axis=1)
    begin, end = len(silence) / 22_050, (len(silence) + len(music)) / 22_050
    # Frames reach half of their length into the music, and the music decays at its end.
    assert heard[(timeline.starts >= begin) & (timeline.ends <= end)].any()
    assert not heard[(timeline.ends < begin - 0.05) | (timeline.starts > end + 0.05)].any()
    assert timeline.note is None
    of_music = aggregate(timeline.windows[heard], np.array([0, heard.sum()]), rule)[0]
    if rule != "han2017":  # It depends on where the windows lie.
        assert list(timeline.scores.values()) == pytest.approx(of_music.tolist())
    assert max(alone.values()) > 0.3
    assert max(timeline.scores.values()) > 0.3


def test_an_instrument_that_is_always_predicted_is_not_heard_in_silence(model: Path) -> None:
    predictor = Predictor.load(model)
    thresholds = predictor.description.thresholds | {"pia": 0.0}
    always = predictor.description.model_copy(update={"thresholds": thresholds})
    predictor = Predictor(always, predictor.network)
    assert predictor.decide(predictor(np.zeros(22_050, np.float32), 22_050)) == []
    assert predictor.decide(dict.fromkeys(IRMAS.codes, 1e-30)) == ["pia"]


def test_channels_that_cancel_are_heard(model: Path, excerpts: list[Path], tmp_path: Path) -> None:
    predictor = Predictor.load(model)
    music, rate = soundfile.read(excerpts[0], dtype="float32")
    left = music[:, 0]
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left], axis=1), rate)
    soundfile.write(tmp_path / "left.wav", left, rate)
    timeline = predictor.timeline(tmp_path / "a.wav")
    assert timeline.note == "its channels cancel each other: the louder, channel 1, is used"
    assert timeline.scores == pytest.approx(predictor.file(tmp_path / "left.wav"))


# Timelines and streams


@pytest.mark.parametrize("rule", AGGREGATION_RULES)
def test_a_clips_score_is_made_of_its_timeline(
    make_model: MakeModel, excerpts: list[Path], rule: str
) -> None:
    predictor = Predictor.load(make_model(aggregation=rule))
    timeline = predictor.timeline(excerpts[0])
    whole = aggregate(timeline.windows, np.array([0, len(timeline.windows)]), rule)[0]
    assert list(timeline.scores) == list(timeline.codes) == list(IRMAS.codes)
    assert list(timeline.scores.values()) == pytest.approx(whole.tolist())
    assert timeline.scores == predictor.file(excerpts[0])


def test_a_timeline_covers_the_file_from_beginning_to_end(
    model: Path, excerpts: list[Path]
) -> None:
    timeline = Predictor.load(model).timeline(excerpts[0])
    assert timeline.starts[0] == 0
    assert timeline.ends[-1] == pytest.approx(soundfile.info(excerpts[0]).duration, abs=512 / 22050)
    np.testing.assert_allclose(timeline.ends - timeline.starts, 43 * 512 / 22_050)
    np.testing.assert_allclose(np.diff(timeline.starts)[:-1], 21 * 512 / 22_050)
    assert np.diff(timeline.starts)[-1] > 0
    assert timeline.windows.shape == (len(timeline.starts), 11)
    assert np.ptp(timeline.windows) > 0.5


def test_an_instrument_has_its_score_when_it_plays(tmp_path: Path, predictor: Predictor) -> None:
    quiet, loud = np.zeros(5 * 22_050, np.float32), noise(5)[:, 0]
    high = np.diff(np.diff(np.diff(loud, prepend=0), prepend=0), prepend=0)
    soundfile.write(tmp_path / "a.wav", np.concatenate([high / 8, quiet + loud / 9e9]), 22_050)
    timeline = predictor.timeline(tmp_path / "a.wav")
    top = timeline.windows[:, timeline.codes.index("top")]
    assert top[timeline.ends < 5].min() > top[timeline.starts > 5].max()


@pytest.mark.parametrize("peak_normalise", [True, False])
def test_a_file_that_is_read_in_blocks_scores_as_one_that_is_not(
    make_model: MakeModel, excerpts: list[Path], monkeypatch: pytest.MonkeyPatch,
    peak_normalise: bool,
) -> None:  # fmt: skip
    predictor = Predictor.load(make_model({"peak_normalise": peak_normalise}))
    whole = predictor.file(excerpts[0])
    monkeypatch.setattr("irmas_dist.corpus.audio.BLOCK_SAMPLES", 9_999)
    monkeypatch.setattr("irmas_dist.features.logmel.BATCH_SAMPLES", 40_000)
    assert predictor.file(excerpts[0]) == pytest.approx(whole, abs=2e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("backend", ["fast", "librosa"])
def test_a_file_scores_as_its_clip_in_a_feature_store(
    make_model: MakeModel, excerpts: list[Path], tmp_path: Path, dtype: str, backend: str
) -> None:
    predictor = Predictor.load(make_model({"dtype": dtype, "backend": backend}))
    settings = predictor.description.features
    soundfile.write(tmp_path / "silent.wav", np.zeros(99_000), 22_050)
    excerpts = [*excerpts, tmp_path / "silent.wav"]
    rows = [
        {"clip_id": path.stem, "md5": "", "part": "testing", "group": path.stem,
         "labels": [0] * 11, "logmel": log_mel(path, settings)}
        for path in excerpts
    ]  # fmt: skip
    place = str(tmp_path / "store")
    storage.make_directory(place)
    store.write_shard(place, rows, store.settings_fingerprint(settings, IRMAS))
    shards = store.read_shards(place, store.shard_names(place))
    store.write_info(place, shards, settings, IRMAS, "")
    stored = predictor.score_store(place, "testing")
    for clip, scores in zip(stored.clip_ids, stored.scores, strict=True):
        path = next(path for path in excerpts if path.stem == clip)
        assert list(predictor.file(path).values()) == pytest.approx(scores.tolist(), abs=1e-5)
        assert scores.any() == (clip != "silent")


def test_memory_does_not_grow_with_the_length_of_a_file(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model({"bands": 128})
    minute = (3_000 * np.random.default_rng(0).standard_normal(60 * 8_000)).astype(np.int16)
    program = (
        "import resource, sys; from irmas_dist.inference.predictor import Predictor;"
        "predictor = Predictor.load(sys.argv[1], 'cpu'); predictor.file(sys.argv[2]);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "predictor.file(sys.argv[3]);"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    for minutes in (5, 40):
        with soundfile.SoundFile(tmp_path / f"{minutes}.wav", "w", 8_000, 1, "PCM_U8") as file:
            for _ in range(minutes):
                file.write(minute)
    files = [str(tmp_path / "5.wav"), str(tmp_path / "40.wav")]
    done = subprocess.run(
        [sys.executable, "-c", program, str(model), *files],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # Its samples take 200 MB, and its spectrogram 50 MB before the logarithm, 26 MB after it.
    assert float(done.stdout) < 45, done.stdout


def test_files_scored_together_are_scored_as_each_alone(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    predictor = Predictor.load(model)
    short = str(tmp_path / "short.wav")
    soundfile.write(short, noise(0.2), 22_050)
    paths = [*sorted(str(path) for path in folder.rglob("[!.]*.wav")), short]
    read = [read_spectrogram(path, predictor.description.features) for path in paths]
    together = predictor.timelines(read)
    assert len(together) == len(paths)
    for path, timeline in zip(paths, together, strict=True):
        alone = predictor.timeline(path)
        np.testing.assert_array_equal(timeline.starts, alone.starts)
        np.testing.assert_allclose(timeline.windows, alone.windows, atol=1e-5)
        assert timeline.scores == pytest.approx(alone.scores, abs=1e-5)
        assert timeline.note == alone.note
    assert together[-1].note == SHORT_NOTE
    assert predictor.timelines([]) == []


def test_windows_of_files_scored_together_are_cut_batch_by_batch(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overlapping windows of long files take many times the memory of the spectrograms."""
    predictor = Predictor.load(model)
    cut: list[Any] = []
    seen: list[int] = []
    predictor.batch_windows = 4
    features = predictor.description.features
    long = Spectrogram(np.zeros((features.bands, 2_000), np.float32), [])
    windows, scores = predictor_module.windows_of, predictor._scores

    def counted(*arguments: Any) -> Any:
        for window in windows(*arguments):
            cut.append(window)
            yield window

    def watched(batch: Any) -> Any:
        seen.append(len(cut))
        return scores(batch)

    monkeypatch.setattr(predictor_module, "windows_of", counted)
    monkeypatch.setattr(predictor, "_scores", watched)
    predictor.timelines([long, long])
    assert seen[:3] == [4, 8, 12]
    assert len(cut) == seen[-1] > 40

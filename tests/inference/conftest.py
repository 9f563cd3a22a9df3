"""Untrained model directories, whose scores differ from clip to clip, and the command line."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from irmas_dist.cli.main import run
from irmas_dist.config.features import LogMelSettings
from irmas_dist.config.model import ModelSettings
from irmas_dist.evaluation.scores import Scores
from irmas_dist.features.logmel import log_mel
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import IRMAS
from irmas_dist.models.cnn import CNN, initialise, parameter_count
from irmas_dist.training.model_description import (
    ModelDescription,
    Normalisation,
    ScoringWindows,
)
from irmas_dist.training.model_directory import pack_weights, save_model
from tests.cli.conftest import Ended
from tests.records import DATA

SMALL = {"blocks": 2, "width": 8, "convolutions": 1, "pool": 2, "dense": 16}
MakeModel = Callable[..., Path]
Irmas = Callable[..., Ended]


@pytest.fixture(scope="session")
def excerpts(tree: Path) -> list[Path]:
    """The rendered test excerpts, 5 to 20 s in stereo at 44.1 kHz."""
    return sorted(tree.glob("IRMAS-Testing*/Part1/*.wav"))


@pytest.fixture(scope="session")
def make_model(excerpts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Write a model directory of a small network; settings may be overridden."""

    def make(
        features: dict[str, Any] | None = None,
        frames: int = 43,
        hop_frames: int = 21,
        aggregation: str = "mean",
        **model: Any,
    ) -> Path:
        front = LogMelSettings(
            **{"n_fft": 1024, "hop_length": 512, "bands": 32, **(features or {})}
        )
        mel = log_mel(excerpts[0], front).astype(np.float64)
        settings = ModelSettings(**{**SMALL, **model})
        network = CNN(settings, front.bands, frames, len(IRMAS))
        initialise(network, seed=3)
        _randomise(network)
        description = ModelDescription(
            instruments=dict(zip(IRMAS.codes, IRMAS.names, strict=True)),
            features=front,
            normalisation=Normalisation(mean=tuple(mel.mean(axis=1)), std=tuple(mel.std(axis=1))),
            model=settings,
            parameters=parameter_count(network),
            windows=ScoringWindows(frames=frames, hop_frames=hop_frames, aggregation=aggregation),
            thresholds=dict.fromkeys(IRMAS.codes, 0.5),
            thresholds_from="40 mixtures of held-out training clips (per instrument, for macro F1)",
            recipe={"seed": 3, "corpus": {}, "thresholds": {}},
            data=DATA,
            versions={"irmas-dist": "0.1.0", "torch": torch.__version__},
            commit="89ab",
            history=[{"epoch": 1.0, "val_micro_f1": 0.625, "val_macro_f1": 0.5}],
            best_epoch=1,
            scores={"epoch": 1.0, "val_micro_f1": 0.625, "val_macro_f1": 0.5},
        )
        nothing = np.zeros((0, len(IRMAS)))
        validation = Scores([], [], [], nothing.astype(np.uint8), nothing.astype(np.float32), IRMAS)
        out = tmp_path_factory.mktemp("models") / "model"
        save_model(out, pack_weights(network), description, validation)
        return out

    return make


def scores_of_songs(songs: int = 20) -> Scores:
    """Scores of two clips of each song: good ones, but for the electric guitar's."""
    rng = np.random.default_rng(0)
    clips = 2 * songs
    labels = (rng.uniform(size=(clips, 11)) < 0.3).astype(np.uint8)
    scores = np.clip(labels * 0.4 + rng.uniform(0, 0.6, (clips, 11)), 0, 1).astype(np.float32)
    labels[:, 4], scores[:, 4] = 1, 0.1
    groups = [f"song {i // 2}" for i in range(clips)]
    return Scores(
        [f"clip {i}" for i in range(clips)], ["testing"] * clips, groups, labels, scores, IRMAS
    )


def _randomise(network: nn.Module) -> None:
    """Give every layer an effect: scores over the whole range, random statistics."""
    generator = torch.Generator().manual_seed(4)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.2, generator=generator)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(4)


@pytest.fixture(scope="session")
def model(make_model: MakeModel) -> Path:
    """A small model with the default front end."""
    return make_model()


@pytest.fixture
def irmas(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Irmas:
    """Run a command line in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run_line(*arguments: object) -> Ended:
        return Ended(run([str(argument) for argument in arguments]), *capfd.readouterr())

    return run_line


@pytest.fixture(scope="session")
def predictor(model: Path) -> Predictor:
    return Predictor.load(model)


@pytest.fixture
def folder(tmp_path: Path, excerpts: list[Path]) -> Path:
    """``music``: two audio files and a damaged one in folders, a text and a hidden file."""
    music = tmp_path / "music"
    (music / "b").mkdir(parents=True)
    (music / "a.wav").write_bytes(excerpts[0].read_bytes())
    (music / "b" / "b [live].wav").write_bytes(excerpts[1].read_bytes())
    (music / "b" / "bad.flac").write_bytes(b"fLaC and no more")
    (music / "b" / "notes.txt").write_text("words")
    (music / ".hidden.wav").write_bytes(b"")
    return music


def predictions(ended: Ended, code: int = 0) -> list[dict[str, Any]]:
    """Return what a command with ``--json`` has printed, after checking its exit code."""
    assert ended[0] == code, ended[2]
    return json.loads(ended[1])["predictions"]


def table(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV text."""
    return list(csv.DictReader(io.StringIO(text)))

"""Model directories without training: random weights whose scores differ from clip to clip."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from irmas_dist.config.model import ModelSettings
from irmas_dist.evaluation.scores import Scores
from irmas_dist.features.logmel import LogMelSettings, log_mel
from irmas_dist.instruments import IRMAS
from irmas_dist.models.cnn import CNN, initialise, parameter_count
from irmas_dist.training.model_directory import (
    ModelDescription,
    Normalisation,
    ScoringWindows,
    pack_weights,
    save_model,
)

SMALL = {"blocks": 2, "width": 8, "convolutions": 1, "pool": 2, "dense": 16}
MakeModel = Callable[..., Path]


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
        _spread(network)
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
            data={"manifest": "0123", "features": "4567", "training_clips": 60},
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


def _spread(network: nn.Module) -> None:
    """Make every layer count: scores over the whole range, normalisation that does something."""
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

"""A command line in this process, and what it evaluates."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from irmas_dist.cli import main
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.instruments import IRMAS
from tests.records import DATA

FOREST = Path(__file__).parents[1] / "evaluation" / "data" / "forest_testing.parquet"


class Ended(NamedTuple):
    """What a command line left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    def refusal(self, code: int = 1) -> str:
        """The one line of a command that failed, or was used wrongly (2), after `irmas: `."""
        assert (self.code, self.out) == (code, "")
        assert self.err.startswith("irmas: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("irmas: ").rstrip("\n")


@pytest.fixture
def irmas(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Ended]:
    """Run a command line in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("IRMAS_LOG_DIR", raising=False)

    def run(*arguments: object) -> Ended:
        code = main.run([str(argument) for argument in arguments])
        return Ended(code, *capfd.readouterr())

    return run


def chosen(scores: Scores, clips: Any, values: np.ndarray | None = None) -> Scores:
    """Scores of some clips, or other values in their place."""
    values = scores.scores if values is None else values
    return Scores(
        [scores.clip_ids[i] for i in clips], [scores.parts[i] for i in clips],
        [scores.groups[i] for i in clips], scores.labels[clips],
        values[clips].astype(np.float32), IRMAS,
    )  # fmt: skip


@pytest.fixture(scope="session")
def forest() -> Scores:
    """Scores of a random forest for all test excerpts of IRMAS."""
    return read_scores(FOREST)


@pytest.fixture(scope="session")
def thinned(forest: Scores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of every fifth clip of the forest, which are evaluated five times as fast."""
    path = tmp_path_factory.mktemp("thinned") / "thinned.parquet"
    write_scores(path, chosen(forest, range(0, len(forest.clip_ids), 5)))
    return path


@pytest.fixture(scope="session")
def models(forest: Scores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two model directories that have been evaluated; their weights are none."""
    from irmas_dist.config.features import LogMelSettings
    from irmas_dist.config.model import ModelSettings
    from irmas_dist.instruments import IRMAS_INSTRUMENTS
    from irmas_dist.training.model_description import (
        ModelDescription,
        Normalisation,
        ScoringWindows,
        write_description,
    )
    from irmas_dist.training.model_directory import scorer_identity

    root = tmp_path_factory.mktemp("models")
    for name, threshold in (("good", 0.14), ("shy", 0.4)):
        description = ModelDescription(
            instruments=IRMAS_INSTRUMENTS,
            features=LogMelSettings(),
            normalisation=Normalisation(mean=(0.0,) * 64, std=(1.0,) * 64),
            model=ModelSettings(),
            parameters=1,
            windows=ScoringWindows(frames=43, hop_frames=21, aggregation="mean"),
            thresholds=dict.fromkeys(IRMAS.codes, threshold),
            thresholds_from="500 mixtures",
            recipe={"thresholds": {"rule": "global"}},
            data=DATA,
            versions={},
            history=[{"epoch": 1, "val_loss": 0.5}],
            best_epoch=1,
            scores={},
        )
        write_description(root / name, description)
        (root / name / "model.safetensors").touch()
        scores = replace(
            chosen(forest, range(0, len(forest.clip_ids), 5)),
            scored_by=scorer_identity(description),
        )
        write_scores(root / name / "scores.parquet", scores)
    return root

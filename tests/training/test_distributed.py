"""Training with Ray: workers are waited for, and leave a model that is whole."""

import signal
from pathlib import Path

import numpy as np
import pytest

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.config.training import WorkerSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import read_scores
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.thresholds import search_decisions
from irmas_dist.training.load import open_training_data
from irmas_dist.training.model_description import ModelDescription
from irmas_dist.training.train import train


def test_validation_scores_are_those_of_the_saved_weights(
    trained: tuple[str, ModelDescription, Recipe], features: str
) -> None:
    path, _, recipe = trained
    saved = read_scores(Path(path) / "validation.parquet")
    clips = open_training_data(features, recipe).threshold_clips()
    again = Predictor.load(path).score_clips(clips)
    np.testing.assert_allclose(saved.scores, again, atol=1e-5)


@pytest.mark.usefixtures("trained")
def test_ray_does_not_answer_what_interrupts_the_work_after_a_training() -> None:
    assert "ray" not in getattr(signal.getsignal(signal.SIGINT), "__module__", "")


def test_thresholds_can_be_fitted_again_without_the_network(
    trained: tuple[str, ModelDescription, Recipe],
) -> None:
    path, description, _ = trained
    changed, _ = search_decisions(path, ThresholdSettings(rule="global"))
    assert len(set(changed.thresholds.values())) == 1
    again, _ = search_decisions(path, description.threshold_settings)
    assert again.thresholds == description.thresholds


def test_workers_beyond_the_capacity_are_waited_for_and_then_refused(
    features: str, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"tracking.mode": "disabled", "training.batch_size": 64}
    disabled = build_recipe(recipe.model_dump(), changes, "the test")
    many = WorkerSettings(count=64, wait_timeout_s=3)
    with pytest.raises(IrmasError, match=r"64 workers need 64 CPUs, and after 3 s the cluster has"):
        train(disabled, features, str(tmp_path / "m"), many)
    assert "waiting up to 3 s for resources: 64 workers need 64 CPUs" in capsys.readouterr().err

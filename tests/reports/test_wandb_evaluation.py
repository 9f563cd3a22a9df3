"""An evaluation goes to the W&B run of its model."""

from pathlib import Path

import numpy as np
import pytest

from irmas_dist.config.tracking import TrackingSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.evaluate import Evaluation, evaluate_scores
from irmas_dist.reports.wandb_evaluation import log_evaluation
from irmas_dist.tracking.run_file import RunFile, run_files
from irmas_dist.tracking.start import start_run
from irmas_dist.training.model_description import ModelDescription
from tests.reports.test_model_page import MODEL, some_scores


def evaluated() -> Evaluation:
    thresholds = np.full(3, 0.45, np.float32)
    return evaluate_scores(some_scores(), "scores.parquet", thresholds, "validation clips")


def model(directory: Path, run: str | None, mode: str = "offline") -> ModelDescription:
    recipe = {"tracking": {"mode": mode, "directory": str(directory), "group": "g"}}
    return MODEL.model_copy(update={"recipe": recipe, "run": run})


def test_figures_and_report_go_to_the_run_of_the_model(tmp_path: Path) -> None:
    tracking = TrackingSettings(mode="offline", directory=str(tmp_path))
    training = start_run(tracking, name="m", job_type="train", config={}, run_id="r1")
    training.log({"epoch": 1.0, "val_macro_f1": 0.75})
    training.close()
    evaluation = evaluated()
    log_evaluation(model(tmp_path, "r1"), evaluation, "m")
    files = run_files(tmp_path)
    found = RunFile(files[-1])
    assert [file.name for file in files] == ["run-r1.wandb"] * 2
    assert (found.run.run_id, found.run.job_type, found.run.run_group) == ("r1", "", "g")
    assert found.summary["val_macro_f1"] == 0.75
    assert found.summary["evaluation/macro_f1"] == evaluation.metrics["macro_f1"]
    assert found.summary["evaluation/protocol"] == evaluation.headline.protocol
    assert found.summary["evaluation/instruments"]["nrows"] == len(evaluation.instruments)
    (page,) = files[-1].parent.rglob("*.html")
    assert "<h1" in page.read_text()


def test_a_model_without_a_run_gets_one(tmp_path: Path) -> None:
    log_evaluation(model(tmp_path, None), evaluated(), "the model")
    (file,) = run_files(tmp_path)
    described = RunFile(file).run
    assert (described.display_name, described.job_type) == ("the model", "evaluate")


def test_nothing_is_logged_where_tracking_is_off(tmp_path: Path) -> None:
    log_evaluation(model(tmp_path, "r1", "disabled"), evaluated(), "m")
    assert not run_files(tmp_path)


def test_settings_of_another_version_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(IrmasError, match=r"recipe: tracking\.mode='never': should be"):
        log_evaluation(model(tmp_path, "r1", "never"), evaluated(), "m")

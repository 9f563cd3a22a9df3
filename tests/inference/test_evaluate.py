"""The evaluation of a model: its scores on labelled clips, with its own thresholds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.scores import Scores, write_scores
from irmas_dist.inference.evaluate import evaluate_model_scores, open_evaluated
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import IRMAS, Vocabulary


@pytest.fixture
def scores() -> Scores:
    rng = np.random.default_rng(0)
    labels = (rng.uniform(size=(20, 11)) < 0.4).astype(np.uint8)
    values = rng.uniform(size=(20, 11)).astype(np.float32)
    songs = [f"song {i // 2}" for i in range(20)]
    return Scores([f"clip {i}" for i in range(20)], ["testing"] * 20, songs, labels, values, IRMAS)


def test_scores_are_evaluated_with_the_thresholds_of_the_model(
    predictor: Predictor, scores: Scores
) -> None:
    evaluation = evaluate_model_scores(predictor.description, scores, "scores.parquet")
    assert evaluation.thresholds_from == predictor.description.thresholds_from
    np.testing.assert_array_equal(evaluation.thresholds, predictor.description.threshold_array())
    assert not any("learnt" in note for note in evaluation.notes)


def test_scores_of_training_clips_are_marked(predictor: Predictor, scores: Scores) -> None:
    trained = replace(scores, parts=["training"] * 20)
    evaluation = evaluate_model_scores(predictor.description, trained, "scores.parquet")
    assert "the model has learnt from clips of training: " in evaluation.notes[-1]


def test_scores_of_other_instruments_are_refused(predictor: Predictor, scores: Scores) -> None:
    other = replace(scores, vocabulary=Vocabulary(IRMAS.codes[::-1], IRMAS.names[::-1]))
    with pytest.raises(IrmasError, match="scores of other instruments than the model's"):
        evaluate_model_scores(predictor.description, other, "scores.parquet")


def test_a_model_directory_or_a_file_of_scores_is_opened(
    model: Path, scores: Scores, tmp_path: Path
) -> None:
    with pytest.raises(IrmasError, match=f"run 'irmas evaluate {model}' first"):
        open_evaluated(str(model), None)
    write_scores(str(tmp_path / "scores.parquet"), scores)
    for name in (str(tmp_path), str(tmp_path / "scores.parquet")):
        opened, thresholds = open_evaluated(name, None)
        np.testing.assert_array_equal(opened.scores, scores.scores)
        assert thresholds is None

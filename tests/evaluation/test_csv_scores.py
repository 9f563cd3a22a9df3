"""Scores from CSV; that unusable files are refused is tested with the command that reads them."""

import numpy as np
import pytest

from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.csv_scores import open_scores
from irmas_dist.instruments import Vocabulary

DUO = Vocabulary.of({"vio": "violin", "cel": "cello"})


def write(tmp_path, scores, labels):
    (tmp_path / "scores.csv").write_text(scores, encoding="utf-8-sig")
    (tmp_path / "labels.csv").write_text(labels)
    return str(tmp_path / "scores.csv"), str(tmp_path / "labels.csv")


def test_columns_may_come_in_any_order_and_paths_in_any_form(tmp_path):
    files = write(
        tmp_path,
        "cel,path,vio\n0.25,./Part1/Nai\u0308ve-1.wav,1\n0.5,Part1/b-2,0\n",
        "path,instruments\nPart1/b-2.wav,\nPart1/Na\u00efve-1,cel | vio\n",
    )
    read = open_scores(*files, DUO)
    assert read.clip_ids == ["Part1/Na\u00efve-1", "Part1/b-2"]
    np.testing.assert_array_equal(read.scores, [[1, 0.25], [0, 0.5]])
    np.testing.assert_array_equal(read.labels, [[1, 1], [0, 0]])
    assert set(read.parts) == {"testing"}
    assert read.vocabulary == DUO


def test_only_irmas_has_labels_that_need_not_be_given(tmp_path):
    scores, labels = write(tmp_path, "path,vio,cel\na,1,0\n", "path,instruments\na,vio\n")
    with pytest.raises(IrmasError, match="give the clips' labels with --labels"):
        open_scores(scores, None, DUO)
    with pytest.raises(IrmasError, match="is not CSV and has labels of its own"):
        open_scores("scores.parquet", labels, DUO)

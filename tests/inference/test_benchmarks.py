"""Figures of benchmarks that need recordings, which no other test runs."""

from pathlib import Path

import pytest

from irmas_dist.evaluation.scores import write_scores
from irmas_dist.training.model_description import read_description
from tests.inference.conftest import MakeModel, scores_of_songs
from tests.inference.test_evaluate import write_noise

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_figures_of_a_model_that_is_adapted_beside_it(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import new_sources
    import recipes

    model, place = make_model(normalisation="batch"), str(tmp_path / "store")
    write_scores(model / "validation.parquet", scores_of_songs())
    write_noise(place, read_description(model), 22)
    found = recipes.figures(model, place)
    assert found.keys() == {"validation", "adapted", "oracle", "parameters"}
    assert found["oracle"]["macro_f1"][0] >= found["validation"]["macro_f1"][0]
    assert new_sources.figures is recipes.figures
    assert recipes.figures(model, place) == found  # what is there is replaced

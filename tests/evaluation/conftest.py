from pathlib import Path

import pytest

from irmas_dist.evaluation.scores import Scores, read_scores

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def forest() -> Scores:
    """A random forest's scores of the 2,874 IRMAS testing excerpts, with the real labels.

    Trained on clip means (chroma, spectral shape, MFCC) of the 6,705 training clips.
    """
    return read_scores(DATA / "forest_testing.parquet")

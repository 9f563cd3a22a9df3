"""Training data: the store is split alike, whether its clips are resident or streamed."""

import numpy as np
import pytest

from irmas_dist.cluster import without_ray
from irmas_dist.config.recipe import Recipe, build_recipe
from irmas_dist.errors import IrmasError
from irmas_dist.features.clips import StreamedClips
from irmas_dist.training.data import open_training_data
from tests.training.conftest import load


def test_resident_and_streamed_stores_are_split_alike(features: str, recipe: Recipe) -> None:
    resident, streamed = (load(features, recipe, mode) for mode in ("resident", "streaming"))
    assert isinstance(streamed.training, StreamedClips)
    assert streamed.training.clip_ids == set(resident.training.clip_ids)
    np.testing.assert_array_equal(streamed.validation.frames, resident.validation.frames)
    np.testing.assert_array_equal(streamed.validation.labels, resident.validation.labels)


def test_clips_are_resident_by_default_when_they_fit_in_memory(
    features: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not isinstance(load(features, recipe, "auto").training, StreamedClips)
    monkeypatch.setattr(without_ray, "RESIDENT_SHARE", 1e-9)
    assert isinstance(load(features, recipe, "auto").training, StreamedClips)
    assert not isinstance(load(features, recipe, "resident").training, StreamedClips)


def test_features_of_other_settings_are_refused(features: str, recipe: Recipe) -> None:
    other = build_recipe(recipe.model_dump(), {"features.bands": 40}, "the test")
    with pytest.raises(IrmasError, match="other feature settings"):
        open_training_data(features, other)

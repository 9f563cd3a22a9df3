"""The facts about IRMAS, as they are published with it, and what the recipe takes from them."""

import pytest

from irmas_dist.config.augment import MixSettings
from irmas_dist.corpus import irmas
from irmas_dist.instruments import IRMAS


def test_the_test_part_has_its_excerpts_and_labels() -> None:
    assert irmas.TEST_EXCERPTS == 2_874
    assert irmas.INSTRUMENTS_PER_EXCERPT == {1: 1_236, 2: 1_278, 3: 318, 4: 39, 5: 3}
    assert list(irmas.TEST_LABELS) == list(IRMAS.codes)
    assert list(irmas.TEST_LABELS.values()) == [
        *(111, 62, 163, 535, 942, 361, 995, 326, 167, 211, 1_044)
    ]
    assert sum(irmas.TEST_LABELS.values()) == 4_917
    assert irmas.TESTING_FOLDERS == (
        "IRMAS-TestingData-Part1/Part1",
        "IRMAS-TestingData-Part2/IRTestingData-Part2",
        "IRMAS-TestingData-Part3/Part3",
    )


def test_the_training_part_has_its_genres_and_drums() -> None:
    assert irmas.TRAINING_FOLDER == "IRMAS-TrainingData"
    # In this order: the rendered music depends on it.
    assert list(irmas.GENRES.items()) == [
        *(("pop_roc", 2_476), ("jaz_blu", 2_030), ("cla", 1_675), ("cou_fol", 482), ("lat_sou", 42))
    ]
    assert irmas.DRUMS_ANNOTATED == 1_894 / 6_705
    assert irmas.DRUMS_SHARE == {
        "pop_roc": 417 / 477,
        "jaz_blu": 215 / 281,
        "cla": 3 / 603,
        "cou_fol": 218 / 479,
        "lat_sou": 39 / 42,
    }


def test_mixtures_have_as_many_instruments_as_test_excerpts() -> None:
    assert MixSettings().counts == pytest.approx(tuple(irmas.INSTRUMENTS_PER_EXCERPT.values()))

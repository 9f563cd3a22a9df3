"""The facts about OpenMIC-2018, against the numbers that are published with it."""

from irmas_dist.config.recipe import load_recipe
from irmas_dist.corpus import openmic
from irmas_dist.corpus.manifest import TESTING, TRAINING


def labels(part: str) -> int:
    return sum(known[part].absent + known[part].present for known in openmic.KNOWN.values())


def test_the_data_set_has_20_instruments_and_41_thousand_labels_of_20_thousand_clips() -> None:
    assert len(openmic.OPENMIC) == 20
    assert sum(openmic.CLIPS.values()) == 20_000
    assert labels(TRAINING) == 30_746
    assert labels(TRAINING) + labels(TESTING) == 41_268


def test_each_instrument_has_500_clips_with_it_or_nearly_and_1500_in_which_it_is_known() -> None:
    """The paper promises as much of the labels before they were aggregated."""
    for code, known in openmic.KNOWN.items():
        present = known[TRAINING].present + known[TESTING].present
        absent = known[TRAINING].absent + known[TESTING].absent
        assert present >= 489, code
        assert present + absent >= 1_500, code


def test_a_clip_lies_in_a_folder_of_the_first_digits_of_its_key() -> None:
    assert openmic.clip_path("000046_3840") == "audio/000/000046_3840.ogg"
    assert openmic.clip_path("142968_0") == "audio/142/142968_0.ogg"


def test_the_recipe_has_its_instruments_in_its_order() -> None:
    assert load_recipe("openmic").corpus.vocabulary == openmic.OPENMIC

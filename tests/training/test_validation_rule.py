"""How thresholds are fitted to validation clips, and what is said of these."""

from typing import Any, cast

import pytest

from irmas_dist.config.decisions import AggregationRule, ThresholdSettings
from irmas_dist.training.records import ValidationRecord
from irmas_dist.training.validation_rule import for_validation, threshold_origin
from tests.records import DATA

JUDGE = ValidationRecord(manifest="1", features="2", store="3", part="testing", clips=9)


@pytest.mark.parametrize(
    ("recipe", "data", "expected"),
    [
        ({}, {}, "9 mixtures of held-out training clips"),
        ({"validation": {"mixed": False}}, {}, "9 held-out clips"),
        ({}, {"own_validation": True}, "9 mixtures of validation clips"),
        ({"validation": {"mixed": False}}, {"own_validation": True}, "9 validation clips"),
        ({}, {"validated_on": (JUDGE,)}, "9 clips of a store to validate on"),
        ({}, {"validated_on": (JUDGE, JUDGE)}, "9 clips of 2 stores to validate on"),
    ],
)
def test_thresholds_say_what_they_were_fitted_to(
    recipe: dict[str, Any], data: dict[str, Any], expected: str
) -> None:
    record = DATA.model_copy(update=data)
    settings = for_validation(ThresholdSettings(rule="global"), ["mean"], recipe, record)
    origin = threshold_origin(settings, 9, recipe, record)
    evidence = "; evidence 0.6" if "mixtures" in expected else ""
    assert origin == f"{expected} (global, for macro F1{evidence})"


@pytest.mark.parametrize(
    ("aggregations", "recipe", "data", "kept"),
    [
        ("mean", {}, {}, 0.7),
        ("s2 mean", {}, {}, 0.7),
        ("s2 han2017", {}, {}, 1),
        ("attention", {"validation": {"by": "group"}}, {}, 0.7),
        ("s2", {}, {}, 1),
        ("han2017", {}, {}, 1),
        ("mean", {"validation": {"by": "source"}}, {}, 1),
        ("mean", {"validation": {"mixed": False}}, {}, 1),
        ("mean", {}, {"validated_on": (JUDGE,)}, 1),
    ],
)
def test_only_mixtures_of_held_out_groups_have_more_evidence_than_other_sources(
    aggregations: str, recipe: dict[str, Any], data: dict[str, Any], kept: float
) -> None:
    settings = ThresholdSettings(objective="micro_f1", evidence=0.7)
    rules = cast("list[AggregationRule]", aggregations.split())
    found = for_validation(settings, rules, recipe, DATA.model_copy(update=data))
    assert found == settings.model_copy(update={"evidence": kept})

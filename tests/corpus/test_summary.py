"""The summary of a manifest: all of IRMAS counted, and groups in both parts reported."""

from typing import Any

import pytest

from irmas_dist.corpus.groups import join_identical, settle_conflicts
from irmas_dist.corpus.irmas import TEST_LABELS
from irmas_dist.corpus.summary import summarise
from irmas_dist.instruments import IRMAS, Vocabulary
from tests.corpus.manifests import row

TRAINING_CLIPS = [388, 505, 451, 637, 760, 682, 721, 626, 577, 580, 778]


def test_all_of_irmas_is_counted(irmas_rows: list[dict[str, Any]]) -> None:
    summary = summarise(irmas_rows, settle_conflicts(irmas_rows, "keep"), IRMAS)
    training = [of["training"] for of in summary.per_instrument.values()]
    testing = [of["testing"] for of in summary.per_instrument.values()]
    assert (training, testing) == (TRAINING_CLIPS, list(TEST_LABELS.values()))
    assert sum(testing) == 4_917
    assert summary.groups == {"training": 2_242, "testing": 208}
    assert summary.in_both_parts == []
    assert len(summary.conflicts) == 19
    assert summary.hours == pytest.approx(sum(row["duration_s"] for row in irmas_rows) / 3_600)
    hours = [of["training"] for of in summary.hours_per_instrument.values()]
    assert hours == pytest.approx([clips * 3 / 3_600 for clips in TRAINING_CLIPS])

    settle_conflicts(irmas_rows, "drop")
    summary = summarise(irmas_rows, [], IRMAS)
    assert summary.clips == 9_579 - 38
    assert summary.problem_kinds == {"conflicting labels": 38}


def test_clips_in_which_an_instrument_is_known_are_counted() -> None:
    rows = [row("a", "1", "pia"), row("b", "2", unknown=["pia"]), row("c", "3", part="testing")]
    summary = summarise(rows, [], Vocabulary.of({"pia": "piano", "vio": "violin"}))
    assert summary.known_per_instrument == {
        "pia": {"training": 1, "testing": 1},
        "vio": {"training": 2, "testing": 1},
    }


@pytest.mark.parametrize(("unknown", "partly"), [([], False), (["vio"], True)])
def test_labels_that_are_unknown_as_often_of_each_instrument_are_partly_known(
    unknown: list[str], partly: bool
) -> None:
    rows = [row("a", "1", "pia", unknown=unknown), row("b", "2", "vio", unknown=["pia"][:partly])]
    instruments = Vocabulary.of({"pia": "piano", "vio": "violin"})
    assert summarise(rows, [], instruments).partly_known == partly


def test_groups_in_both_parts_are_reported() -> None:
    rows = [row("a", "1", "pia"), row("b", "1", "pia", part="testing")]
    join_identical(rows)
    summary = summarise(rows, [], Vocabulary.of({"pia": "piano"}))
    assert summary.in_both_parts == ["file a"]
    assert summary.per_instrument == {"pia": {"training": 1, "testing": 1}}

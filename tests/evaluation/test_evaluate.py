"""Evaluation of scores by every protocol that is possible, and thresholds from other scores."""

from dataclasses import replace

import numpy as np
import pytest

from irmas_dist.config.decisions import FOR_SCORES, ThresholdSettings
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.evaluate import evaluate_scores, thresholds_from
from irmas_dist.evaluation.metrics import decision_metrics
from irmas_dist.evaluation.operating_points import decide
from irmas_dist.evaluation.scores import Scores, write_scores
from irmas_dist.evaluation.thresholds import fit_thresholds
from irmas_dist.instruments import UNKNOWN, Vocabulary

PAIR = Vocabulary.of({"vio": "violin", "cel": "cello"})
TRIO = Vocabulary.of({"vio": "violin", "cel": "cello", "pia": "piano"})
SETTINGS = ThresholdSettings()


def some_scores(
    songs: int, labels: list[list[int]] | None = None, vocabulary: Vocabulary = PAIR
) -> Scores:
    """One clip of each song; the instruments of the clips take turns unless given."""
    turns = np.array(labels or np.eye(len(vocabulary)), np.int8)
    of_clips = turns[np.arange(songs) % len(turns)]
    noise = np.random.default_rng(0).random(of_clips.shape)
    names = [f"song {number}" for number in range(songs)]
    values = (0.3 * (of_clips == 1) + 0.7 * noise).astype(np.float32)
    return Scores(names, ["testing"] * songs, names, of_clips, values, vocabulary)


def to_evaluate(vocabulary: Vocabulary = PAIR) -> Scores:
    """Scores to evaluate, of one clip of another song."""
    return replace(some_scores(1, vocabulary=vocabulary), clip_ids=["test"], groups=["test"])


def test_without_thresholds_the_headline_is_cross_validated() -> None:
    evaluation = evaluate_scores(some_scores(40), "s.parquet")
    assert list(evaluation.results) == ["cross-validated", "oracle"]
    assert evaluation.headline.protocol == "cross-validated"
    assert evaluation.metrics == evaluation.results["cross-validated"].metrics
    assert (evaluation.thresholds, evaluation.notes) == (None, [])
    assert [row["threshold"] for row in evaluation.instruments] == [None, None]


def test_thresholds_chosen_beforehand_make_the_headline() -> None:
    scores = some_scores(40)
    thresholds = np.array([0.25, 0.5], np.float32)
    evaluation = evaluate_scores(scores, "s.parquet", thresholds, "other clips")
    assert list(evaluation.results) == ["validation", "cross-validated", "oracle"]
    np.testing.assert_array_equal(evaluation.headline.decisions, decide(scores.scores, thresholds))
    assert [row["threshold"] for row in evaluation.instruments] == [0.25, 0.5]
    assert evaluation.thresholds_from == "other clips"


def test_the_oracle_decides_by_thresholds_fitted_to_the_same_clips() -> None:
    scores = some_scores(40)
    settings = ThresholdSettings(rule="global", objective="micro_f1")
    oracle = evaluate_scores(scores, "s.parquet", settings=settings).results["oracle"]
    fitted = fit_thresholds(scores.labels, scores.scores, settings)
    expected = decision_metrics(scores.labels, decide(scores.scores, fitted))
    assert oracle.metrics["micro_f1"] == pytest.approx(expected["micro_f1"])


def test_too_few_songs_are_not_cross_validated_and_a_note_says_so() -> None:
    scores = some_scores(8)  # four of each instrument, for five folds
    evaluation = evaluate_scores(scores, "s.parquet")
    assert list(evaluation.results) == ["oracle"]
    (note,) = evaluation.notes
    told = "thresholds cannot be cross-validated: instrument vio has too few groups of clips (4)"
    assert note.startswith(told)
    fitted = fit_thresholds(scores.labels, scores.scores, FOR_SCORES)
    assert [row["threshold"] for row in evaluation.instruments] == fitted.tolist()


def test_clips_without_any_instrument_are_not_cross_validated_and_a_note_says_so() -> None:
    evaluation = evaluate_scores(some_scores(40, labels=[[0, 0]]), "s.parquet")
    assert list(evaluation.results) == ["oracle"]
    refused, absent = evaluation.notes
    told = "thresholds cannot be cross-validated: no clip has an instrument to be split by"
    assert refused == told
    assert absent.startswith("known to play in no clip: vio, cel; ")
    assert evaluation.metrics["micro_f1"] == 0
    assert not evaluation.headline.decisions.any()


def test_no_clips_are_refused() -> None:
    with pytest.raises(IrmasError, match=r"s\.parquet contains no clips to evaluate"):
        evaluate_scores(some_scores(0), "s.parquet")


def test_clips_of_which_nothing_is_known_are_refused() -> None:
    nothing = some_scores(20, [[UNKNOWN, UNKNOWN]])
    with pytest.raises(IrmasError, match=r"s\.parquet: of no clip is it known what plays or does"):
        evaluate_scores(nothing, "s.parquet")


def test_thresholds_are_fitted_to_clips_of_several_instruments_as_they_are(tmp_path) -> None:
    scores = some_scores(40, labels=[[1, 0], [1, 1]])
    location = str(tmp_path / "held-out.parquet")
    write_scores(location, scores)
    thresholds, source = thresholds_from(location, None, SETTINGS, to_evaluate())
    expected = fit_thresholds(scores.labels, scores.scores, SETTINGS)
    np.testing.assert_array_equal(thresholds, expected)
    assert source == f"40 clips of {location}"


def test_clips_of_one_instrument_each_are_mixed_before_thresholds_are_fitted(tmp_path) -> None:
    labels = np.eye(5, dtype=np.uint8).repeat(20, axis=0)
    vocabulary = Vocabulary.of({code: code for code in "abcde"})
    names = [f"clip {number}" for number in range(100)]
    sure = Scores(names, ["training"] * 100, names, labels, labels.astype(np.float32), vocabulary)
    location = str(tmp_path / "held-out.parquet")
    write_scores(location, sure)
    thresholds, source = thresholds_from(location, None, SETTINGS, to_evaluate(vocabulary))
    assert source == f"mixed scores of the 100 clips of {location}"
    # A score of 1 is at most a half in a mixture of two; of the clips alone, thresholds are 0.5.
    assert fit_thresholds(labels, sure.scores, SETTINGS).tolist() == [0.5] * 5
    assert (thresholds < 0.5).all()


def test_clips_with_unknown_labels_are_not_mixed(tmp_path) -> None:
    """One known instrument is not the only one."""
    scores = some_scores(40, labels=[[1, UNKNOWN], [UNKNOWN, 1]])
    location = str(tmp_path / "held-out.parquet")
    write_scores(location, scores)
    _, source = thresholds_from(location, None, SETTINGS, to_evaluate())
    assert source == f"40 clips of {location}"


def test_too_few_instruments_to_mix_are_refused(tmp_path) -> None:
    location = str(tmp_path / "held-out.parquet")
    write_scores(location, some_scores(40, labels=[[1, 0]]))
    with pytest.raises(IrmasError, match=r"held-out\.parquet: mixtures of \d clips need as many"):
        thresholds_from(location, None, SETTINGS, to_evaluate())


def test_thresholds_of_other_instruments_are_refused(tmp_path) -> None:
    location = str(tmp_path / "held-out.parquet")
    write_scores(location, some_scores(40, vocabulary=TRIO))
    with pytest.raises(IrmasError, match="has scores of other instruments"):
        thresholds_from(location, None, SETTINGS, to_evaluate())


@pytest.mark.parametrize(
    ("shared", "prefix"), [("clip_ids", ""), ("groups", ""), ("groups", "fold 3: ")]
)
def test_thresholds_are_not_fitted_to_clips_or_songs_that_are_evaluated(
    tmp_path, shared, prefix
) -> None:
    held_out = some_scores(40, labels=[[1, 0], [1, 1]])
    held_out = replace(held_out, groups=[prefix + group for group in held_out.groups])
    location = str(tmp_path / "held-out.parquet")
    write_scores(location, held_out)
    evaluated = replace(to_evaluate(), **{shared: ["song 7"]})
    with pytest.raises(IrmasError, match=r"held-out\.parquet has 'song 7', and so have the scores"):
        thresholds_from(location, None, SETTINGS, evaluated)


def test_an_instrument_that_is_known_and_in_no_clip_is_named_as_it_lowers_the_means() -> None:
    """One that is known nowhere is left out of them, and is not."""
    turns = [[1, 0, UNKNOWN], [0, 0, UNKNOWN]]
    evaluation = evaluate_scores(some_scores(40, turns, TRIO), "s.parquet")
    (note,) = [one for one in evaluation.notes if one.startswith("known to play in no")]
    assert note.startswith(
        "known to play in no clip: cel; precision, recall, F1 and average precision"
    )
    assert "known in no clip: pia; left out of means over instruments" in evaluation.notes
    of_vio, of_cel, of_pia = evaluation.instruments
    assert {name for name, value in of_pia.items() if value is None} == {
        *("precision", "recall", "f1", "ap", "roc_auc", "ece", "f1_low", "f1_high", "threshold")
    }
    assert of_cel["f1"] == 0
    assert evaluation.metrics["macro_f1"] == pytest.approx(of_vio["f1"] / 2)


def test_an_instrument_that_is_known_to_be_absent_from_no_clip_is_named() -> None:
    turns = [[1, 1, UNKNOWN], [0, UNKNOWN, UNKNOWN]]
    evaluation = evaluate_scores(some_scores(40, turns, TRIO), "s.parquet")
    (note,) = [one for one in evaluation.notes if one.startswith("known to be absent")]
    assert note.startswith("known to be absent from no clip: cel; average precision of these is 1")
    of_vio, of_cel, _ = evaluation.instruments
    assert (of_cel["ap"], of_cel["precision"]) == (1, 1)
    assert evaluation.metrics["map"] == pytest.approx((of_vio["ap"] + 1) / 2)
    whole = evaluate_scores(some_scores(40, [[1, 1, 0], [0, 0, 1]], TRIO), "s.parquet")
    assert not [one for one in whole.notes if "absent" in one]

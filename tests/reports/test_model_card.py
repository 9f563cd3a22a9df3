"""The model card has what the model directory has, and figures with their protocol."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from irmas_dist.evaluation.evaluate import evaluate_scores
from irmas_dist.evaluation.scores import write_scores
from irmas_dist.inference.export import ExportSummary
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import IRMAS, UNKNOWN, Vocabulary
from irmas_dist.reports.model_card import model_card, write_model_card
from irmas_dist.reports.model_page import write_model_page
from irmas_dist.training.records import AdaptationRecord, StartRecord, ValidationRecord
from tests.inference.conftest import MakeModel, scores_of_songs
from tests.records import DATA


def section(card: str, heading: str) -> str:
    return card.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_a_card_says_what_the_model_directory_says(model: Path) -> None:
    description = Predictor.load(model).description
    card = model_card("model", description)
    assert card.startswith("# model\n")
    assert f"{description.parameters:,}" in card
    assert "11 instruments" in card
    assert "| voi | voice | 0.500 |" in section(card, "Use")
    assert description.thresholds_from in section(card, "Use")
    assert "on mixtures of held-out training clips" in section(card, "Figures")
    assert "micro F1 0.625, macro F1 0.500" in section(card, "Figures")
    assert "- training clips: 60\n" in section(card, "Data")
    assert "- manifest: fingerprint `0123`" in section(card, "Data")
    assert "CC BY-NC-SA 3.0" in section(card, "Data")
    assert "Its figures on test music are not known" in section(card, "Limits")
    assert "surest" not in section(card, "Limits")
    assert f"- torch {torch.__version__}" in section(card, "Made with")
    assert "commit `89ab`" in section(card, "Made with")
    assert "\n\n\n" not in card


def test_names_stay_in_their_cells(model: Path) -> None:
    description = Predictor.load(model).description
    instruments = {**description.instruments, "voi": "voice | choir"}
    card = model_card("model", description.model_copy(update={"instruments": instruments}))
    assert r"| voi | voice \| choir | 0.500 |" in section(card, "Use")


def test_a_card_has_the_figures_of_an_evaluation_with_their_protocol(
    make_model: MakeModel,
) -> None:
    description = Predictor.load(make_model(aggregation="s2")).description
    evaluation = evaluate_scores(scores_of_songs(), "", description.threshold_array())
    card = model_card("model", description, evaluation)
    figures = section(card, "Figures")
    assert "On 40 clips of 20 songs (testing)" in figures
    assert set(evaluation.results) == {"validation", "cross-validated", "oracle"}
    for protocol, result in evaluation.results.items():
        assert f"| {protocol} | {result.metrics['micro_f1']:.3f} (" in figures
        assert f"- `{protocol}`: thresholds " in figures
    for row in evaluation.instruments:
        line = f"| {row['name']} | {row['clips']} | {row['precision']:.3f} |"
        assert any(found.startswith(line) for found in figures.splitlines())
    assert f"| {row['f1']:.3f} | {row['ap']:.3f} |\n\nBy instrument" in figures
    assert "\n| protocol | Micro F1 | Macro F1 | LRAP |\n| --- | --- | --- | --- |\n" in figures
    labels = evaluation.scores.labels.astype(np.int8)
    labels[0, 0] = UNKNOWN
    labels[:, 1] = UNKNOWN
    scores = dataclasses.replace(evaluation.scores, labels=labels)
    partly = model_card(
        "m", description, evaluate_scores(scores, "", description.threshold_array())
    )
    assert f"\n| cello | {(labels[:, 0] == 1).sum()} | 39 |" in section(partly, "Figures")
    assert "\n| clarinet | 0 | 0 | not known | | | |\n" in section(partly, "Figures")
    assert "By instrument, the protocol is `validation`." in figures
    assert (
        "- electric guitar is recognised poorly: F1 0.000 (`validation`; clips with it: 40)" in card
    )
    limits = " ".join(section(card, "Limits").split())
    assert "relative to the surest instrument of a clip, which scores 1" in limits
    assert "only in silence do all score 0" in limits
    assert "\n\n\n" not in card


def test_other_instruments_than_irmas_s_are_compared_by_mean_average_precision(
    make_model: MakeModel, tmp_path: Path
) -> None:
    """LRAP counts a clip with one known label as right, whatever the model."""
    names = {f"x{number}": f"instrument {number}" for number in range(len(IRMAS))}
    other = Vocabulary.of(names)
    description = Predictor.load(make_model()).description.model_copy(
        update={"instruments": names, "thresholds": dict.fromkeys(names, 0.5)}
    )
    scores = dataclasses.replace(scores_of_songs(), vocabulary=other)
    evaluation = evaluate_scores(scores, "", description.threshold_array())
    figures = section(model_card("model", description, evaluation), "Figures")
    assert "| protocol | Micro F1 | Macro F1 | mAP |" in figures
    assert f"{evaluation.metrics['map']:.3f} (" in figures
    write_model_page(tmp_path / "page.html", evaluation, "x")
    headline = (tmp_path / "page.html").read_text().split('<dl class="headline">')[1]
    assert "<dt>mAP</dt>" in headline.split("</dl>")[0]


def test_a_card_has_no_intervals_of_one_song(make_model: MakeModel) -> None:
    description = Predictor.load(make_model(aggregation="mean")).description
    scores = scores_of_songs()
    one = dataclasses.replace(scores, groups=["a song"] * len(scores.groups))
    evaluation = evaluate_scores(one, "", description.threshold_array())
    figures = section(model_card("model", description, evaluation), "Figures")
    assert "On 40 clips of 1 song (testing):\n" in figures
    assert f"| validation | {evaluation.metrics['micro_f1']:.3f} | " in figures
    assert "- all clips are of one song: figures have no intervals" in figures


def test_a_card_says_that_its_model_was_adapted_after_it_was_validated(model: Path) -> None:
    description = Predictor.load(model).description
    assert "adapted" not in model_card("model", description)
    adapted = description.model_copy(update={"adapted": AdaptationRecord(to="songs", clips=80)})
    card = model_card("model", adapted)
    assert "| adapted to | songs (80 clips) |\n" in card
    assert "They are of the model before it was adapted." in section(card, "Figures")
    start = StartRecord(weights="0123", data=DATA, adapted_to="cafe")
    judge = ValidationRecord(manifest="1", features="2", store="4567", part="testing", clips=9)
    changed = {"init": start, "validated_on": (judge,), "own_validation": True}
    data = description.data.model_copy(update=changed)
    facts = section(model_card("model", description.model_copy(update={"data": data})), "Data")
    assert "- init adapted to: cafe\n" in facts
    assert "- init data training clips: 60\n" in facts
    assert "- own validation: yes\n" in facts
    assert "- init weights: fingerprint `0123`\n" in facts
    assert "- validated on 1 part: testing\n" in facts
    # An ensemble has what its members were adapted to, and they the rest.
    members = description.model_copy(update={"adapted": AdaptationRecord(to="songs, talk")})
    assert "| adapted to | songs, talk |\n" in model_card("model", members)


def test_a_card_is_written_beside_its_files_though_the_scores_are_another_models(
    make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model()
    write_scores(model / "scores.parquet", scores_of_songs())
    exported = ExportSummary(str(tmp_path), ["model.onnx"], 5, {}, {"model.onnx": 22_050})
    assert write_model_card(str(model), exported).files == ["model.onnx", "README.md"]
    assert "There are no figures of this model" in (tmp_path / "README.md").read_text()
    told = capsys.readouterr().err
    assert "the model card has no figures: " in told
    assert "holds scores of another model than " in told


def test_a_page_does_not_state_what_is_not_known(model: Path, tmp_path: Path) -> None:
    description = Predictor.load(model).description
    adapted = description.model_copy(update={"adapted": AdaptationRecord(to="songs")})
    evaluation = evaluate_scores(scores_of_songs(), "", description.threshold_array())
    write_model_page(tmp_path / "page.html", evaluation, "x", adapted)
    page = (tmp_path / "page.html").read_text()
    assert "adapted.to" in page
    assert "data.training_clips" in page
    for name in ("adapted.share", "adapted.clips", "data.also", "data.validation_clips"):
        assert name not in page

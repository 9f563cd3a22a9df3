"""Predictions in MIREX's shape: its labels, and a confidence for each."""

import csv
from pathlib import Path

import pytest

from irmas_dist.corpus.openmic import OPENMIC
from irmas_dist.errors import IrmasError
from irmas_dist.inference.audio_inputs import Prediction
from irmas_dist.inference.mirex import MirexLabels, write_mirex
from irmas_dist.instruments import IRMAS, Vocabulary
from tests.inference.conftest import Irmas

MAPPING = {"gac": "guitar", "gel": "guitar"}


def test_the_confidence_of_a_label_is_the_highest_of_its_instruments(tmp_path: Path) -> None:
    labels = MirexLabels.of(IRMAS, MAPPING)
    scores = dict.fromkeys(IRMAS.codes, 0.5) | {"gac": 0.25, "gel": 0.75, "vio": 0.125}
    named = ("cello", "clarinet", "flute", "organ", "piano", "saxophone", "trumpet", "voice")
    out = tmp_path / "out.csv"
    write_mirex(str(out), [Prediction("a,b.wav", scores), Prediction("bad", error="no")], labels)
    first, second = csv.DictReader(out.open())
    assert list(first) == ["path", *OPENMIC.codes]
    assert first.pop("path") == "a,b.wav"
    assert {label: float(text) for label, text in first.items()} == dict.fromkeys(
        OPENMIC.codes, 0.0
    ) | dict.fromkeys(named, 0.5) | {"guitar": 0.75, "violin": 0.125}
    assert second.pop("path") == "bad"
    assert set(second.values()) == {""}


def test_what_is_known_not_to_play_does_not_count_beside_others() -> None:
    electric = IRMAS.codes.index("gel")
    assert MirexLabels.of(IRMAS, MAPPING, {electric}).members["guitar"] == ["gac"]
    assert MirexLabels.of(IRMAS, {"gel": "guitar"}, {electric}).members["guitar"] == ["gel"]


def test_what_has_no_counterpart_is_named() -> None:
    lost, unknown = MirexLabels.of(IRMAS, {}).notes
    assert lost.endswith("left out: gac, gel")
    assert unknown.startswith("no instrument of the model is one, confidence 0: accordion, banjo")
    assert unknown.endswith("guitar, mallet_percussion, mandolin, synthesizer, trombone, ukulele")
    assert MirexLabels.of(OPENMIC, {}).notes == []
    for vocabulary, mapping, message in [
        (Vocabulary.of({"x": "x"}), {}, "are none of MIREX's labels, .*; say with --map which are"),
        (IRMAS, {"gac": "gitar"}, "--map gac=gitar: gitar is no label of MIREX's"),
        (Vocabulary.of({"x": "x"}), {"gac": "guitar"}, "gac is none of x"),
    ]:
        with pytest.raises(IrmasError, match=message):
            MirexLabels.of(vocabulary, mapping)


@pytest.mark.parametrize(
    ("name", "label"), [("Drum kit", "drums"), ("drum set", "drums"), ("synth", "synthesizer")]
)
def test_other_names_of_a_label_need_no_mapping(name: str, label: str) -> None:
    assert MirexLabels.of(Vocabulary.of({"x": name}), {}).members == {label: ["x"]}


def test_predict_writes_it(irmas: Irmas, model: Path, excerpts: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mirex.csv"
    told = "gac=guitar,gel=guitar"
    code, _, err = irmas("predict", model, excerpts[0], "--format", "mirex", "--map", told,
                         "--out", out)  # fmt: skip
    assert code == 0
    assert "confidence 0: accordion" in " ".join(err.split())
    [row] = csv.DictReader(out.open())
    assert float(row["piano"]) > 0
    assert float(row["accordion"]) == 0
    code, _, err = irmas("predict", model, excerpts[0], "--format", "mirex", "--map", told,
                         "--out", tmp_path / "mirex.parquet")  # fmt: skip
    assert code == 2
    assert "name the file .csv" in " ".join(err.split())


def test_what_an_instrument_is_mapped_to_counts_more_than_its_name() -> None:
    labels = MirexLabels.of(Vocabulary.of({"org": "organ"}), {"org": "accordion"})
    assert labels.members == {"accordion": ["org"]}

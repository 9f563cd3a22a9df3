"""``irmas predict`` and ``irmas export``: options, and how their results are shown."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from irmas_dist.evaluation.operating_points import NEVER
from irmas_dist.inference import export, predict
from irmas_dist.inference.audio_inputs import Prediction
from irmas_dist.inference.export import ExportSummary
from irmas_dist.instruments import Vocabulary
from irmas_dist.reports import model_card
from irmas_dist.training import model_description
from tests.cli.conftest import Ended

NAMES = {"vio": "violin", "cel": "cello"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--format parquet", "give --out"),
        ("--out scores.txt", "give --format json, csv, parquet or mirex"),
        ("--json --format csv", "give one of them"),
        ("--format xml", "Invalid value for '--format'"),
        ("--format mirex", "give --out"),
        ("--format table --out p.csv", "give --format json, csv, parquet or mirex"),
        ("--json --out p.csv", "--json and --out p.csv: name the file .json"),
        ("--format csv --out p.json", "--format csv and --out p.json: name the file .csv"),
        ("--map gac=guitar", "--map is of --format mirex"),
        ("--workers 0", "Invalid value for '--workers'"),
    ],
)
def test_wrong_usage_of_predict(irmas: Callable[..., Ended], arguments: str, message: str) -> None:
    ended = irmas("predict", "model", "a.wav", *arguments.split())
    assert message in ended.refusal(2)


@pytest.fixture
def predicting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Put predictions in the place of a model's; return the options of each call."""
    monkeypatch.setenv("COLUMNS", "120")

    def to(*predictions: Prediction) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def predicted(model: str, inputs: list[str], **options: Any) -> list[Prediction]:
            calls.append(options)
            for prediction in predictions:
                if options["each"]:
                    options["each"](prediction)
            return list(predictions)

        description = SimpleNamespace(
            instruments=NAMES,
            vocabulary=Vocabulary.of(NAMES),
            thresholds={"vio": 0.5, "cel": float(NEVER)},
        )
        monkeypatch.setattr(model_description, "read_description", lambda model: description)
        monkeypatch.setattr(predict, "predict", predicted)
        return calls

    return to


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ("", "table"),
        ("--json", "json"),
        ("--format json", "json"),
        ("--out p.CSV", "csv"),
        ("--out p.parquet", "parquet"),
        ("--out p.json --json", "json"),
        ("--out p.txt --format csv", "csv"),
    ],
)
def test_the_format_is_that_of_the_options_else_of_the_file(
    irmas: Callable[..., Ended],
    predicting: Callable[..., list[dict[str, Any]]],
    options: str,
    form: str,
) -> None:
    calls = predicting(Prediction("a.wav", {"vio": 0.7, "cel": 0.1}, ["vio"]))
    assert irmas("predict", "model", "a.wav", *options.split()).code == 0
    assert [call["form"] for call in calls] == [form]


def test_json_says_what_was_written_and_what_failed(
    irmas: Callable[..., Ended], predicting: Callable[..., object]
) -> None:
    predicting(Prediction("a.wav", {"vio": 0.7}, ["vio"]), Prediction("b.wav", {}, [], "no audio"))
    code, out, err = irmas("predict", "model", "a.wav", "b.wav", "--json", "--out", "p.json")
    assert (code, err) == (1, "b.wav: no audio\n")
    assert json.loads(out) == {"path": "p.json", "files": 2, "failed": {"b.wav": "no audio"}}


def test_one_file_is_shown_with_the_likeliest_instrument_first(
    irmas: Callable[..., Ended], predicting: Callable[..., object]
) -> None:
    predicting(Prediction("[a].wav", {"cel": 0.25, "vio": 0.75}, ["vio"]))
    out = irmas("predict", "model", "a.wav").out
    rows = [line.strip("│ ").replace("│", " ").split() for line in out.splitlines() if "│" in line]
    assert rows == [["violin", "0.750", "0.500", "yes"], ["cello", "0.250", "never"]]
    assert "[a].wav" in out


def test_several_files_have_a_row_each_and_a_bad_one_a_line(
    irmas: Callable[..., Ended], predicting: Callable[..., object]
) -> None:
    predicting(
        Prediction("both.wav", {"vio": 0.75, "cel": 0.875}, ["vio", "cel"]),
        Prediction("none.wav", {"vio": 0.25, "cel": 0.125}),
        Prediction("silent.wav", {"vio": 0.0, "cel": 0.0}, note="silent: nothing"),
        Prediction("bad.wav", error="cannot be decoded"),
    )
    ended = irmas("predict", "model", "music")
    assert ended.code == 1
    rows = [line for line in ended.out.splitlines() if ".wav" in line]
    assert [row.strip("│ ").split("│")[1].strip() for row in rows] == [
        "cello 0.88, violin 0.75",
        "none reaches its threshold; likeliest violin 0.25",
        "none: silent",
    ]
    assert ended.err == "silent.wav: silent: nothing\nbad.wav: cannot be decoded\n"


def test_csv_is_printed_file_by_file_below_one_header(
    irmas: Callable[..., Ended], predicting: Callable[..., object]
) -> None:
    scores = {"vio": 0.75, "cel": 0.25}
    predicting(Prediction("a.wav", scores, ["vio"]), Prediction("b.wav", scores))
    lines = irmas("predict", "model", "music", "--format", "csv").out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["path", "a.wav", "b.wav"]


def test_of_a_file_of_predictions_the_number_is_shown(
    irmas: Callable[..., Ended], predicting: Callable[..., object]
) -> None:
    bad = Prediction("b.wav", error="empty")
    predicting(Prediction("a.wav", {"vio": 0.75, "cel": 0.25}, ["vio"]), bad)
    ended = irmas("predict", "model", "music", "--out", "p.csv")
    assert (ended.code, ended.out) == (1, "1 of 2 files predicted: p.csv\n")


def test_a_sample_rate_that_no_export_takes(irmas: Callable[..., Ended]) -> None:
    ended = irmas("export", "model", "--sample-rate", 999)
    assert ended.code == 2
    assert "Invalid value for '--sample-rate'" in ended.err


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Put a summary in the place of an export; return the arguments of each call."""
    calls: list[tuple[Any, ...]] = []

    def exported(model: str, out: str, *options: Any) -> ExportSummary:
        calls.append((model, out, *options))
        return ExportSummary(out, ["model.onnx"], 5, {"model.onnx": 1e-6}, {"model.onnx": 22_050})

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(export, "export", exported)
    monkeypatch.setattr(model_card, "write_model_card", lambda model, summary: summary)
    return calls


def test_an_export_goes_into_the_model_unless_told_otherwise(
    irmas: Callable[..., Ended], exports: list[tuple[Any, ...]]
) -> None:
    assert irmas("export", "s3://b/model").code == 0
    options = "--out o --check-on a --check-on b --sample-rate 8000"
    assert irmas("export", "model", *options.split()).code == 0
    assert exports == [
        ("s3://b/model", "s3://b/model/export", (), ()),
        ("model", "o", ["a", "b"], [8_000]),
    ]


@pytest.mark.usefixtures("exports")
def test_an_export_shows_how_far_its_scores_are_off(irmas: Callable[..., Ended]) -> None:
    assert irmas("export", "model", "--out", "o").out.splitlines() == [
        "model.onnx (22050 Hz): on 5 clips, scores differ from PyTorch's by 1.0e-06 at most",
        "model.onnx: o",
    ]
    found = json.loads(irmas("export", "model", "--out", "o", "--json").out)
    assert (found["path"], found["clips"], found["differences"]) == ("o", 5, {"model.onnx": 1e-6})

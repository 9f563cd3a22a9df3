"""Predictions in files, and the journal from which an interrupted run resumes."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from irmas_dist.corpus.mixdown import SILENT
from irmas_dist.evaluation.csv_scores import open_scores
from irmas_dist.inference.audio_inputs import Prediction
from irmas_dist.inference.predict import predict
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.results import Journal, write_predictions
from irmas_dist.instruments import IRMAS
from tests.inference.conftest import Irmas, table


@pytest.mark.parametrize("by", ["--format csv", "--format csv --out p.txt", "--out p.csv"])
def test_csv(irmas: Irmas, model: Path, folder: Path, predictor: Predictor, by: str) -> None:
    code, out, _ = irmas("predict", model, "music", *by.split())
    assert code == 1
    written = Path(by.split()[-1])
    a, live, bad = table(written.read_text() if written.suffix else out)
    assert list(a) == ["path", "instruments", "error", "note", "adapted_to", *IRMAS.codes]
    assert [row["path"] for row in (a, live, bad)][1] == "music/b/b [live].wav"
    scores = predictor.file("music/a.wav")
    assert {name: float(a[name]) for name in IRMAS.codes} == pytest.approx(scores)
    assert a["instruments"].split("|") == predictor.decide(scores)
    assert a["error"] == ""
    assert bad["error"].startswith("cannot be decoded")
    assert bad["cel"] == bad["instruments"] == ""


def test_parquet_and_json_files(
    irmas: Irmas, model: Path, folder: Path, predictor: Predictor
) -> None:
    code, out, _ = irmas("predict", model, "music", "--out", "p.parquet")
    assert (code, out) == (1, "2 of 3 files predicted: p.parquet\n")
    a, _, bad = pq.read_table("p.parquet").to_pylist()
    scores = predictor.file("music/a.wav")
    assert {name: a[name] for name in IRMAS.codes} == pytest.approx(scores)
    assert (a["path"], a["error"]) == ("music/a.wav", None)
    assert a["instruments"] == predictor.decide(scores)
    assert (bad["cel"], bad["instruments"]) == (None, None)
    irmas("predict", model, "music", "--out", "p.json")
    written = json.loads(Path("p.json").read_text())
    assert written == json.loads(irmas("predict", model, "music", "--json")[1])


def test_silence_is_said_in_every_format(
    irmas: Irmas, model: Path, folder: Path, excerpts: list[Path]
) -> None:
    music, rate = soundfile.read(excerpts[0])
    soundfile.write(folder / "c.wav", np.stack([music[:, 0], -music[:, 0]], axis=1), rate)
    soundfile.write(folder / "d.wav", np.zeros(66_150), 22_050)
    (folder / "b" / "bad.flac").unlink()
    cancel = "its channels cancel each other: the louder, channel 1, is used"
    notes = ["", "", cancel, SILENT]
    for options in (["--out", "p.csv"], ["--out", "p.json"], ["--out", "p.parquet"]):
        code, _, err = irmas("predict", model, "music", *options)
        assert code == 0
        assert f"music/c.wav: {cancel}\nmusic/d.wav: {SILENT}\n" in err
    in_csv = table(Path("p.csv").read_text())
    in_json = json.loads(Path("p.json").read_text())["predictions"]
    in_parquet = pq.read_table("p.parquet").to_pylist()
    assert [row["path"] for row in in_csv] == [row["path"] for row in in_json]
    for rows in (in_csv, in_json, in_parquet):
        rows.sort(key=lambda row: Path(row["path"]).name)
        assert [row["note"] or "" for row in rows] == [notes[n] for n in (0, 1, 2, 3)]
        assert not rows[3]["instruments"]
    assert [in_csv[3][code] for code in IRMAS.codes] == ["0"] * 11
    assert set(in_json[3]["scores"].values()) == {0}
    code, out, err = irmas("predict", model, "music/d.wav", "music/a.wav")
    assert "none: silent" in out
    assert f"music/d.wav: {SILENT}\n" in err
    irmas("predict", model, "music/d.wav", "--timeline", "times")
    windows = table(Path("times/d.wav.csv").read_text())
    assert {row[code] for row in windows for code in IRMAS.codes} == {"0"}


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_predictions_are_read_by_evaluate(
    irmas: Irmas, model: Path, folder: Path, tmp_path: Path, suffix: str
) -> None:
    (folder / "b" / "bad.flac").unlink()
    assert irmas("predict", model, "music", "--out", f"p.{suffix}")[0] == 0
    (tmp_path / "labels.csv").write_text("path,instruments\na.wav,pia\nb/b [live],gac|voi\n")
    options = ("--labels", "labels.csv", "--json")
    code, out, err = irmas("evaluate", "--scores", f"p.{suffix}", *options)
    assert code == 0, err
    found = json.loads(out)
    assert (found["clips"], found["songs"]) == (2, 2)
    scores = open_scores(f"p.{suffix}", "labels.csv")
    predicted = json.loads(irmas("predict", model, "music", "--json")[1])["predictions"]
    np.testing.assert_allclose(
        scores.scores, [list(each["scores"].values()) for each in predicted], rtol=1e-6
    )


def test_an_interrupted_run_resumes(
    irmas: Irmas, model: Path, folder: Path, predictor: Predictor, excerpts: list[Path]
) -> None:
    done: list[str] = []

    def interrupt(prediction: Prediction) -> None:
        done.append(prediction.path)
        if len(done) == 2:
            raise KeyboardInterrupt

    def resume(**others: object) -> list[Prediction]:
        return predict(str(model), ["music"], out="p.csv", form="csv", **others)

    irmas("predict", "--help")  # enters the empty directory
    with pytest.raises(KeyboardInterrupt):
        resume(each=interrupt)
    assert not Path("p.csv").exists()
    with Path("p.csv.partial").open("a") as journal:
        journal.write('{"path": "music/b/ba')  # killed while writing
    resume(each=lambda prediction: done.append(prediction.path))
    assert done == ["music/a.wav", "music/b/b [live].wav", "music/b/bad.flac"]
    assert not Path("p.csv.partial").exists()
    by_file = {row["path"]: float(row["cel"] or 0) for row in table(Path("p.csv").read_text())}
    assert by_file["music/a.wav"] == pytest.approx(predictor.file("music/a.wav")["cel"])

    # With another folder of timelines, all are; and those that were deleted meanwhile.
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        resume(each=interrupt, timeline="times")
    Path("times/a.wav.csv").unlink()
    resume(each=lambda prediction: done.append(prediction.path), timeline="times")
    assert done[2:] == ["music/a.wav", "music/b/bad.flac"]

    done.clear()
    with pytest.raises(KeyboardInterrupt):
        resume(each=interrupt)
    # A file that has changed is predicted again.
    Path("music/a.wav").write_bytes(excerpts[2].read_bytes())
    resume(each=lambda prediction: done.append(prediction.path))
    assert done[2:] == ["music/a.wav", "music/b/bad.flac"]


def test_a_prediction_of_a_pipe_is_never_reused(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "p.csv")
    journal = Journal(out, predictor.description, None)
    os.mkfifo(tmp_path / "pipe")
    os.utime(folder / "a.wav", (0, 0))
    for path in ("-", str(tmp_path / "pipe"), str(folder / "a.wav")):
        journal.add(Prediction(path, dict.fromkeys(IRMAS.codes, 0.5), note="silent"))
    known = Journal(out, predictor.description, None).known
    assert {path: each.note for path, each in known.items()} == {str(folder / "a.wav"): "silent"}
    windows = predictor.description.windows.model_copy(update={"hop_frames": 5})
    other = predictor.description.model_copy(update={"windows": windows})
    assert not Journal(out, other, None).known, "of another model"


def test_a_prediction_of_a_file_that_changes_meanwhile_is_not_reused(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    """What the file is by then may not be what was heard."""
    out = str(tmp_path / "p.csv")
    journal = Journal(out, predictor.description, None)
    (folder / "a.wav").touch()
    journal.add(Prediction(str(folder / "a.wav"), dict.fromkeys(IRMAS.codes, 0.5)))
    assert not Journal(out, predictor.description, None).known


def test_an_object_store_that_does_not_answer_costs_its_file_alone(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
    journal = Journal(str(tmp_path / "p.csv"), predictor.description, None)
    journal.add(Prediction("s3://no-answer/a.wav", {}, [], "it does not answer"))
    assert not Journal(str(tmp_path / "p.csv"), predictor.description, None).known


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_predictions_tell_no_secret_of_a_url(tmp_path: Path, form: str) -> None:
    prediction = Prediction("s3://AKIA1:s3cr3t@b/a.wav?region=eu-west-3", {"cel": 0.5}, ["cel"])
    out = str(tmp_path / f"p.{form}")
    write_predictions(out, form, [prediction], ["cel"])
    text = Path(out).read_text("utf-8", "replace")
    written = str(pq.read_table(out).to_pylist()) if form == "parquet" else text
    assert "s3://AKIA1:***@b/a.wav?region=eu-west-3" in written
    assert "s3cr3t" not in text

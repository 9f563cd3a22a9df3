"""``irmas predict``: files, folders and pipes in; a table, JSON, CSV or Parquet out."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from matplotlib.image import imread

from irmas_dist.cli.main import run
from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.inference.audio_inputs import Prediction
from irmas_dist.inference.predict import predict
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.results import Journal
from irmas_dist.inference.timelines import clock
from irmas_dist.instruments import IRMAS

Ended = tuple[int, str, str]
Irmas = Callable[..., Ended]


@pytest.fixture
def irmas(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Irmas:
    """Run a command line in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run_line(*arguments: object) -> Ended:
        return run([str(argument) for argument in arguments]), *capfd.readouterr()

    return run_line


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor.load(model)


@pytest.fixture
def folder(tmp_path: Path, excerpts: list[Path]) -> Path:
    """Three files in folders, one of them no audio, and what is not to be heard."""
    place = tmp_path / "music"
    (place / "b").mkdir(parents=True)
    (place / "a.wav").write_bytes(excerpts[0].read_bytes())
    (place / "b" / "b [live].wav").write_bytes(excerpts[1].read_bytes())
    (place / "b" / "bad.flac").write_bytes(b"fLaC and no more")
    (place / "b" / "notes.txt").write_text("words")
    (place / ".hidden.wav").write_bytes(b"")
    return place


def refusal(ended: Ended) -> str:
    """The one line of a command that failed."""
    code, out, err = ended
    assert (code, out) == (1, ""), err
    assert err.startswith("irmas: ")
    assert err.count("\n") == 1, err
    return err.removeprefix("irmas: ").strip()


def predictions(ended: Ended, code: int = 0) -> list[dict]:
    assert ended[0] == code, ended[2]
    return json.loads(ended[1])["predictions"]


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# What goes in


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", "PCM_16"),
        ("wav", "PCM_24"),
        ("wav", "FLOAT"),
        ("flac", "PCM_16"),
        ("aiff", "PCM_16"),
        ("ogg", "VORBIS"),
        ("mp3", "MPEG_LAYER_III"),
    ],
)
def test_any_format(
    irmas: Irmas, model: Path, excerpts: list[Path], predictor: Predictor, tmp_path: Path,
    suffix: str, subtype: str,
) -> None:  # fmt: skip
    samples, rate = soundfile.read(excerpts[0], dtype="int16")
    soundfile.write(tmp_path / f"a.{suffix}", samples, rate, subtype)
    (heard,) = predictions(irmas("predict", model, f"a.{suffix}", "--json"))
    decoded, _ = soundfile.read(tmp_path / f"a.{suffix}", dtype="float32")
    assert heard["path"] == f"a.{suffix}"
    assert heard["scores"] == pytest.approx(predictor(decoded, rate), abs=1e-3)
    assert heard["instruments"] == predictor.decide(heard["scores"])


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (22_050, 2), (48_000, 1), (96_000, 6)])
def test_any_rate_and_number_of_channels(
    irmas: Irmas, model: Path, predictor: Predictor, tmp_path: Path, rate: int, channels: int
) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * rate) / rate).astype(np.float32) / 2
    soundfile.write(tmp_path / "a.wav", np.stack([tone] * channels, axis=1), rate, "FLOAT")
    (heard,) = predictions(irmas("predict", model, "a.wav", "--json"))
    assert heard["scores"] == pytest.approx(predictor(tone, rate), abs=1e-3)


def test_folders_are_searched_for_audio(irmas: Irmas, model: Path, folder: Path) -> None:
    heard = predictions(irmas("predict", model, "music", "--json"), code=1)
    assert [each["path"] for each in heard] == [
        "music/a.wav", "music/b/b [live].wav", "music/b/bad.flac",
    ]  # fmt: skip
    again = predictions(irmas("predict", model, "music/a.wav", "music", "music/a.wav", "--json"), 1)
    assert again == heard


def test_a_corrupt_file_has_its_error_and_the_others_go_on(
    irmas: Irmas, model: Path, folder: Path, predictor: Predictor
) -> None:
    names = ["music/b/bad.flac", "missing.wav", "music/a.wav"]
    ended = irmas("predict", model, *names, "--json")
    bad, missing, good = predictions(ended, code=1)
    assert bad["error"].startswith("cannot be decoded: ")
    assert missing == {"path": "missing.wav", "error": "no such file"}
    assert good["scores"] == pytest.approx(predictor.file("music/a.wav"))
    assert "missing.wav: no such file\n" in ended[2]
    code, out, err = irmas("predict", model, *names)
    assert code == 1
    assert "music/a.wav" in out
    assert f"music/b/bad.flac: {bad['error']}\n" in err


def piped(model: Path, content: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "irmas_dist", "predict", str(model), "-", *arguments],
        input=content,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_standard_input_is_an_audio_file(
    model: Path, excerpts: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    content = bytearray(excerpts[0].read_bytes())
    # As ffmpeg writes a header into a pipe: of a length that it cannot know.
    content[4:8] = b"\xff" * 4
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff" * 4
    done = piped(model, bytes(content), "--json")
    (heard,) = predictions((done.returncode, done.stdout.decode(), done.stderr.decode()))
    assert heard["path"] == "-"
    assert heard["scores"] == pytest.approx(predictor.file(excerpts[0]))


def test_standard_input_that_is_no_audio(model: Path) -> None:
    done = piped(model, b"words")
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.decode().startswith("-: cannot be decoded: ")


def test_a_named_pipe_is_read_once(
    irmas: Irmas, model: Path, excerpts: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    content = excerpts[0].read_bytes()
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
    writer.start()
    (heard,) = predictions(irmas("predict", model, "pipe", "--json"))
    writer.join()
    assert heard["scores"] == pytest.approx(predictor.file(excerpts[0]))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("missing a.wav", "missing is not a model directory: it has no model.json"),
        ("empty a.wav", "empty is not a model directory: it has no model.json"),
        ("unfinished a.wav", "unfinished is not a model directory: it has no model.json"),
        ("MODEL empty", "empty holds no audio files"),
        ("MODEL a/x.wav b/x.wav --timeline t", "--timeline: a/x.wav and b/x.wav would both be"),
        ("MODEL - --workers 2", "standard input cannot be distributed"),
    ],
)
def test_an_input_that_cannot_be_used(
    irmas: Irmas, model: Path, tmp_path: Path, arguments: str, told: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "model.safetensors").write_bytes(
        (model / "model.safetensors").read_bytes()
    )
    line = [str(model) if word == "MODEL" else word for word in arguments.split()]
    assert refusal(irmas("predict", *line)).startswith(told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--format parquet", "give --out"),
        ("--out scores.txt", "give --format json, csv or parquet"),
        ("--json --format csv", "give one of them"),
        ("--format xml", "Invalid value for '--format'"),
        ("--workers 0", "Invalid value for '--workers'"),
    ],
)
def test_wrong_usage(irmas: Irmas, model: Path, arguments: str, told: str) -> None:
    code, out, err = irmas("predict", model, "a.wav", *arguments.split())
    assert code == 2
    assert told in " ".join((out + err).split())


# What comes out


def test_one_file_is_shown_by_instrument(
    irmas: Irmas, model: Path, excerpts: list[Path], predictor: Predictor
) -> None:
    code, out, err = irmas("predict", model, excerpts[0])
    assert (code, err) == (0, "")
    scores = predictor.file(excerpts[0])
    for code_, score in scores.items():
        (row,) = [line for line in out.splitlines() if f" {IRMAS.name(code_)} " in line]
        assert f"{score:.3f}" in row
        assert ("yes" in row) == (code_ in predictor.decide(scores))


def test_several_files_are_shown_by_what_plays(
    irmas: Irmas, model: Path, folder: Path, predictor: Predictor
) -> None:
    _, out, err = irmas("predict", model, "music")
    for name in ("music/a.wav", "music/b/b [live].wav"):
        (row,) = [line for line in out.splitlines() if name in line]
        scores = predictor.file(name)
        for code in predictor.decide(scores):
            assert f"{IRMAS.name(code)} {scores[code]:.2f}" in row
    assert "predict: 3 of 3 files" in err


@pytest.mark.parametrize("by", ["--format csv", "--format csv --out p.txt", "--out p.csv"])
def test_csv(irmas: Irmas, model: Path, folder: Path, predictor: Predictor, by: str) -> None:
    code, out, _ = irmas("predict", model, "music", *by.split())
    assert code == 1
    written = Path(by.split()[-1])
    a, live, bad = table(written.read_text() if written.suffix else out)
    assert list(a) == ["path", "instruments", "error", *IRMAS.codes]
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


def test_what_was_done_before_an_interruption_is_not_done_again(
    irmas: Irmas, model: Path, folder: Path, predictor: Predictor, excerpts: list[Path]
) -> None:
    heard: list[str] = []

    def interrupt(prediction: Prediction) -> None:
        heard.append(prediction.path)
        if len(heard) == 2:
            raise KeyboardInterrupt

    def go(**others: object) -> list[Prediction]:
        return predict(str(model), ["music"], out="p.csv", form="csv", **others)

    irmas("predict", "--help")  # for the empty directory
    with pytest.raises(KeyboardInterrupt):
        go(each=interrupt)
    assert not Path("p.csv").exists()
    with Path("p.csv.partial").open("a") as journal:
        journal.write('{"path": "music/b/ba')  # killed while it wrote
    go(each=lambda prediction: heard.append(prediction.path))
    assert heard == ["music/a.wav", "music/b/b [live].wav", "music/b/bad.flac"]
    assert not Path("p.csv.partial").exists()
    by_file = {row["path"]: float(row["cel"] or 0) for row in table(Path("p.csv").read_text())}
    assert by_file["music/a.wav"] == pytest.approx(predictor.file("music/a.wav")["cel"])

    heard.clear()
    with pytest.raises(KeyboardInterrupt):
        go(each=interrupt)
    Path("music/a.wav").write_bytes(excerpts[2].read_bytes())
    go(each=lambda prediction: heard.append(prediction.path))
    assert heard[2:] == ["music/a.wav", "music/b/bad.flac"], "a file that has changed is heard anew"


def test_what_came_through_a_pipe_is_never_taken_up_again(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "p.csv")
    journal = Journal(out, predictor.description, None)
    os.mkfifo(tmp_path / "pipe")
    for path in ("-", str(tmp_path / "pipe"), str(folder / "a.wav")):
        journal.add(Prediction(path, dict.fromkeys(IRMAS.codes, 0.5)))
    assert list(Journal(out, predictor.description, None).known) == [str(folder / "a.wav")]
    windows = predictor.description.windows.model_copy(update={"hop_frames": 5})
    other = predictor.description.model_copy(update={"windows": windows})
    assert not Journal(out, other, None).known, "another model's"


# Over time


def test_a_timeline_is_a_table_and_a_picture(
    irmas: Irmas, model: Path, folder: Path, predictor: Predictor
) -> None:
    code, out, err = irmas("predict", model, "music", "--timeline", "times", "--json")
    assert code == 1
    assert "scores over time: times\n" in err
    written = sorted(str(path) for path in Path("times").rglob("*.*"))
    stems = ["times/a.wav", "times/b/b [live].wav"]
    assert written == [stem + suffix for stem in stems for suffix in (".csv", ".png")]
    rows = table(Path("times/a.wav.csv").read_text())
    windows = np.array([[float(row[name]) for name in IRMAS.codes] for row in rows], np.float32)
    clip = json.loads(out)["predictions"][0]["scores"]
    whole = aggregate(windows, np.array([0, len(windows)]), "mean")[0]
    assert list(clip.values()) == pytest.approx(whole.tolist(), abs=1e-6)
    expected = predictor.timeline("music/a.wav")
    assert [float(row["start_s"]) for row in rows] == pytest.approx(expected.starts, abs=1e-3)
    assert [float(row["end_s"]) for row in rows] == pytest.approx(expected.ends, abs=1e-3)
    height, width, _ = imread("times/a.wav.png").shape
    assert width > height > 300


def test_times_on_the_axis_are_minutes_and_seconds() -> None:
    times = {0: "0:00", 5: "0:05", 0.5: "0:00.5", 65: "1:05", 600: "10:00", 3_900: "1:05:00"}
    assert {seconds: clock(seconds) for seconds in times} == times


# Many files


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_data_gives_what_one_process_gives(irmas: Irmas, model: Path, folder: Path) -> None:
    alone = irmas("predict", model, "music", "missing.wav", "--json", "--timeline", "t1")
    spread = irmas(
        "predict", model, "music", "missing.wav", "--json", "--timeline", "t2", "--workers", 2
    )
    expected, found = predictions(alone, code=1), predictions(spread, code=1)
    assert [each["path"] for each in found] == [each["path"] for each in expected]
    for one, other in zip(expected, found, strict=True):
        assert other.get("error") == one.get("error")
        assert other.get("scores", {}) == pytest.approx(one.get("scores", {}), abs=1e-5)
        assert other.get("instruments") == one.get("instruments")
    for name in ("a.wav.csv", "b/b [live].wav.csv"):
        lines, others = (table(Path(place, name).read_text()) for place in ("t1", "t2"))
        for line, other in zip(lines, others, strict=True):
            assert {k: float(v) for k, v in line.items()} == pytest.approx(
                {k: float(v) for k, v in other.items()}, abs=1e-5
            )


def test_a_prediction_waits_for_no_library_that_it_can_do_without(
    model: Path, excerpts: list[Path], tmp_path: Path
) -> None:
    heavy = {"ray", "wandb", "librosa", "matplotlib", "pandas", "optuna", "onnx"}
    program = (
        "import sys; from irmas_dist.cli.main import run;"
        f"run(['predict', {str(model)!r}, {str(excerpts[0])!r}, '--out', 'p.csv']);"
        f"print(sorted({heavy!r} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout == "1 of 1 files predicted: p.csv\n[]\n"

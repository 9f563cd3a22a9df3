"""``irmas predict``: what it refuses, and what it shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import IRMAS
from tests.cli.conftest import Ended
from tests.inference.conftest import Irmas, predictions, table


def refusal(ended: Ended) -> str:
    """Return the one line that a failed command prints."""
    code, out, err = ended
    assert (code, out) == (1, ""), err
    assert err.startswith("irmas: ")
    assert err.count("\n") == 1, err
    return err.removeprefix("irmas: ").strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("missing a.wav", "missing is not a model directory: it has no model.json"),
        ("empty a.wav", "empty is not a model directory: it has no model.json"),
        ("unfinished a.wav", "unfinished is not a model directory: it has no model.json"),
        ("MODEL empty", "empty holds no audio files"),
        ("MODEL a/x.wav b/x.wav --timeline t", "--timeline: a/x.wav and b/x.wav would both be"),
        ("MODEL - --workers 2", "standard input cannot be distributed"),
        ("MODEL a.wav --timeline MODEL", "MODEL holds a model: name another directory"),
        (
            "MODEL a.wav --timeline t --adapt-to b --format mirex --out m.csv --map gac=gitarre",
            "--map gac=gitarre: gitarre is no label of MIREX's",
        ),
    ],
)
def test_an_input_that_cannot_be_used(
    irmas: Irmas, model: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "model.safetensors").write_bytes(
        (model / "model.safetensors").read_bytes()
    )
    line = [str(model) if word == "MODEL" else word for word in arguments.split()]
    message = message.replace("MODEL", str(model), 1) if message.startswith("MODEL") else message
    assert refusal(irmas("predict", *line)).startswith(message)


def test_predictions_do_not_replace_the_audio(irmas: Irmas, model: Path, folder: Path) -> None:
    audio = folder / "a.wav"
    before = audio.read_bytes()
    (folder / "list").write_bytes(before)  # an argument may be any file
    for inputs, out, told in [
        (audio, audio, "has the name of an audio file"),
        (folder / "list", folder / "list", "is named for something else, too"),
        (folder, audio, "has the name of an audio file"),
    ]:
        code, _, err = irmas("predict", model, inputs, "--out", out, "--format", "csv")
        assert (code, told in err) == (1, True)
    assert audio.read_bytes() == before


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


def test_several_files_are_shown_with_their_instruments(
    irmas: Irmas, model: Path, folder: Path, predictor: Predictor
) -> None:
    _, out, err = irmas("predict", model, "music")
    for name in ("music/a.wav", "music/b/b [live].wav"):
        (row,) = [line for line in out.splitlines() if name in line]
        scores = predictor.file(name)
        for code in predictor.decide(scores):
            assert f"{IRMAS.name(code)} {scores[code]:.2f}" in row
    assert "predict: 3 of 3 files" in err


def test_a_prediction_imports_no_library_that_it_does_not_need(
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


NO_TEXT = os.fsdecode(b"caf\xe9.wav")
LONG = "x" * 251 + ".wav"


@pytest.fixture
def odd_names(tmp_path: Path, excerpts: list[Path]) -> list[str]:
    """``music`` with a name that is not UTF-8, one of 255 letters, and a plain one."""
    folder = tmp_path / "music"
    folder.mkdir()
    for name in (NO_TEXT, LONG, "plain.wav"):
        (folder / name).symlink_to(excerpts[0])
    return ["music/caf?.wav", "music/plain.wav", f"music/{LONG}"]


def test_odd_names_do_not_stop_their_folder(
    irmas: Irmas, model: Path, odd_names: list[str], predictor: Predictor
) -> None:
    found = predictions(irmas("predict", model, "music", "--json", "--timeline", "times"))
    assert [each["path"] for each in found] == odd_names
    scores = predictor.file(f"music/{NO_TEXT}")
    assert all(each["scores"] == pytest.approx(scores) for each in found)
    written = sorted(path.name for path in Path("times").iterdir())
    assert len(written) == 6
    for name in ("plain.wav.csv", "plain.wav.png"):
        assert name in written
    for name in (f"{'x' * 242}-", "caf?.wav-"):
        assert len([one for one in written if one.startswith(name)]) == 2

    for out in ("p.csv", "p.json", "p.parquet", f"{'p' * 251}.csv"):
        code, _, err = irmas("predict", model, "music", "--out", out)
        assert code == 0, err
    assert [row["path"] for row in table(Path("p.csv").read_text())] == odd_names
    assert pq.read_table("p.parquet").column("path").to_pylist() == odd_names
    assert [row["path"] for row in json.loads(Path("p.json").read_text())["predictions"]] == (
        odd_names
    )
    for options in ([], ["--format", "csv"]):
        code, out, _ = irmas("predict", model, "music", *options)
        assert code == 0
        assert "caf?.wav" in out


def test_a_file_with_an_odd_name_is_named_when_it_cannot_be_used(
    irmas: Irmas, model: Path, tmp_path: Path
) -> None:
    (tmp_path / NO_TEXT).write_bytes(b"RIFF and no more")
    code, _, err = irmas("predict", model, NO_TEXT)
    assert code == 1
    assert err.startswith("caf?.wav: cannot be decoded: ")
    missing = os.fsdecode(b"missing\xe9.wav")
    assert irmas("predict", model, missing)[2] == "missing?.wav: no such file\n"


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_predictions_may_go_to_standard_output(
    irmas: Irmas, model: Path, folder: Path, form: str, tmp_path: Path
) -> None:
    irmas("predict", model, "music", "--out", f"p.{form}")
    before = set(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, *f"-m irmas_dist predict {model} music --out - --format {form}".split()],
        cwd=tmp_path, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout == Path(f"p.{form}").read_bytes()
    assert b"2 of 3 files predicted: -\n" in done.stderr
    assert {path for path in tmp_path.iterdir() if path.name != "runs"} == before

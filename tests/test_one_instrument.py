"""A vocabulary of one instrument on the whole road, by the commands."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from irmas_dist.cli.main import run
from tests.conftest import TINY

RATE = 8_000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve training clips of a piano, as many test excerpts, and clips of something else."""
    rng = np.random.default_rng(0)
    for folder, stem, labels in (
        ("pia", "clip", None), ("other", "clip", None), ("concert", "song", "pia\n"),
    ):  # fmt: skip
        (tmp_path / "tree" / folder).mkdir(parents=True)
        for number in range(12):
            path = tmp_path / "tree" / folder / f"{stem} {number}.wav"
            soundfile.write(path, 0.3 * rng.standard_normal(RATE), RATE)
            if labels:
                path.with_suffix(".txt").write_text(labels)
    return tmp_path


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_vocabulary_of_one_instrument_works_from_index_to_sweep(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(corpus)
    (corpus / "one.yaml").write_text("corpus: {instruments: {pia: piano}}\n")
    front_end = ["--config", "one.yaml", "--set", TINY[0]]
    recipe = [*front_end]
    for override in (*TINY[1:], "tracking.directory=runs", "training.epochs=1"):
        recipe += ["--set", override]

    def irmas(*arguments: str) -> dict[str, Any]:
        status = run([*arguments, "--json"])
        out, err = capfd.readouterr()
        assert status == 0, err
        return json.loads(out)

    indexed = irmas("index", "tree", "--config", "one.yaml")
    assert (indexed["clips"], len(indexed["problems"])) == (24, 12)
    irmas("extract", "manifest.parquet", "features", "--max-rejects", "0.5", *front_end)
    irmas("train", "features", "model", *recipe)
    for options in ([], ["--features", "features"], ["--rule", "global", "--objective", "cost"]):
        assert list(irmas("thresholds", "model", *options)["thresholds"]) == ["pia"]

    evaluated = irmas("evaluate", "model", "--features", "features")
    assert list(evaluated["protocols"]) == ["validation", "cross-validated", "oracle"]
    assert [row["code"] for row in evaluated["per_instrument"]] == ["pia"]
    scores = "model/scores.parquet"
    fitted = irmas("evaluate", "--scores", scores, "--fit-on", "model/validation.parquet")
    assert fitted["protocol"] == "validation"
    from_audio = irmas("evaluate", "model", "--tree", "tree", "--out", "again")
    assert from_audio["metrics"] == pytest.approx(evaluated["metrics"], abs=1e-6)
    assert "left out of 24 files for testing, 12: no label file" in from_audio["notes"][-1]

    Path("space.yaml").write_text("model.dense: {type: int, low: 8, high: 32}\n")
    options = ("--space", "space.yaml", "--trials", "4", "--scheduler", "none")
    swept = irmas("sweep", "features", "sweep", *options, *recipe)
    assert [trial["state"] for trial in swept["trials"]] == ["completed"] * 4
    irmas("evaluate", "sweep/model", "--features", "features")
    assert list(irmas("compare", "model", "sweep/model")["models"]) == ["model", "sweep/model"]
    for page in ("model", "sweep"):
        assert Path(irmas("report", page)["path"]).exists()

    predicted = irmas("predict", "model", "tree/concert", "--timeline", "times")["predictions"]
    assert {tuple(each["scores"]) for each in predicted} == {("pia",)}
    assert len(list(Path("times").glob("*.png"))) == 12

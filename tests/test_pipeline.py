"""The whole pipeline by its commands, on a tiny corpus with a corrupt file in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from irmas_dist.cli.main import run
from irmas_dist.config.decisions import AGGREGATION_RULES
from tests.conftest import CONFIGS, TINY


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_from_a_soundfont_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    front_end = ["--config", str(CONFIGS / "demo.yaml"), "--set", TINY[0]]
    recipe = [*front_end]
    for override in (*TINY[1:], "tracking.directory=runs", "training.epochs=3"):
        recipe += ["--set", override]

    def irmas(*arguments: str) -> dict[str, Any]:
        status = run([*arguments, "--json"])
        out, err = capfd.readouterr()
        assert status == 0, err
        assert "Traceback" not in err
        assert out.startswith("{"), out
        return json.loads(out)

    rendered = irmas(
        *("render", "tree", "--recordings", "4", "--clips", "2"),
        *("--songs", "3", "--excerpts", "2"),
    )
    assert rendered["training_files"] == 88
    corrupt = tmp_path / "tree" / "IRMAS-TrainingData" / "pia" / "[pia][cla]9999__1.wav"
    corrupt.write_bytes(b"RIFF")

    indexed = irmas("index", "tree")
    assert indexed["clips"] == 88 + 6
    assert list(indexed["problems"]) == ["IRMAS-TrainingData/pia/[pia][cla]9999__1"]

    extracted = irmas("extract", "manifest.parquet", "features", *front_end)
    assert extracted["clips"] == 88 + 6
    assert sum(extracted["rejects"].values()) == 1

    space = tmp_path / "space.yaml"
    space.write_text("training.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}\n")
    swept = irmas("sweep", "features", "sweep", "--space", str(space), "--trials", "2", *recipe)
    assert [trial["state"] for trial in swept["trials"]] == ["completed", "completed"]

    best = ["--config", "sweep/best.yaml"]
    trained = irmas("train", "features", "model", *best)
    assert trained["epochs"] == 3

    fitted = irmas("thresholds", "model", "--objective", "micro_f1")
    assert set(fitted["thresholds"]) == set(indexed["per_instrument"])
    decided = irmas("thresholds", "sweep/model", "--features", "features")
    assert {candidate["aggregation"] for candidate in decided["compared"]} == set(AGGREGATION_RULES)
    page = Path(irmas("report", "sweep")["path"]).read_text()
    assert "training.lr" in page

    evaluated = irmas("evaluate", "model", "--features", "features")
    assert evaluated["clips"] == 6
    assert 0 <= evaluated["metrics"]["macro_f1"] <= 1

    from_audio = irmas("evaluate", "model", "--tree", "tree", "--work", "work", "--out", "again")
    assert from_audio["metrics"] == pytest.approx(evaluated["metrics"], abs=1e-6)
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"evaluated-tree"}

    excerpt = sorted((tmp_path / "tree").rglob("Part1/*.wav"))[0]
    predicted = irmas("predict", "model", str(excerpt))["predictions"]
    assert set(predicted[0]["scores"]) == set(fitted["thresholds"])
    # A bad file is reported, the others are scored, and the exit code is that of a failure.
    assert run(["predict", "model", str(corrupt), str(excerpt), "--json"]) == 1
    bad, good = json.loads(capfd.readouterr().out)["predictions"]
    assert "cannot be decoded" in bad["error"]
    assert good["scores"] == predicted[0]["scores"]

    page = Path(irmas("report", "model")["path"]).read_text()
    assert f"{evaluated['metrics']['macro_f1']:.3f}"[1:] in page
    assert list((tmp_path / "runs" / "wandb").glob("offline-run-*"))

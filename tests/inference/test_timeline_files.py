"""Scores over time, as a table and as a heat map."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from irmas_dist.evaluation.aggregate import aggregate
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.timeline_files import clock
from irmas_dist.instruments import IRMAS
from tests.inference.conftest import Irmas, table


def test_a_timeline_is_a_table_and_a_heat_map(
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

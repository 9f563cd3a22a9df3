"""The page in a real browser: nothing is fetched, nothing overflows, sound can be played."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.instruments import IRMAS
from irmas_dist.reports.audio_player import embedded
from tests.browser import LOOKS, measure, needs_chromium
from tests.evaluation.test_report import report, some_scores

PLAYERS = """new Promise(resolve => {
  const player = document.querySelector("audio");
  player.preload = "metadata";
  player.addEventListener("loadedmetadata", () => resolve({
    players: document.querySelectorAll("audio").length, seconds: player.duration,
  }));
  player.load();
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("page")
    noise = np.random.default_rng(0).normal(size=44_100) * 0.1
    soundfile.write(directory / "noise.wav", noise, 44_100)
    sound = embedded(directory / "noise.wav")
    scores = some_scores(clips=60, vocabulary=IRMAS)
    report(directory, scores=scores, player=lambda clip_id: sound)
    return directory / "report.html"


@needs_chromium
@pytest.mark.parametrize(("width", "scheme", "background"), LOOKS)
def test_the_page_in_a_browser(
    page: Path, tmp_path: Path, width: int, scheme: str, background: str
) -> None:
    measured = measure(page, tmp_path, width, scheme, PLAYERS)
    assert measured["overflow"] <= 0
    assert measured["fetched"] == []
    assert measured["background"] == background
    assert measured["players"] == 10
    assert measured["seconds"] == pytest.approx(1, abs=0.2)

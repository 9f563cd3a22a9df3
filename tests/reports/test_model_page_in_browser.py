"""The page in a real browser: it fetches nothing, nothing overflows, and audio plays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.instruments import IRMAS
from tests.browser import LOOKS, measure, needs_chromium
from tests.reports.test_model_page import report, some_scores

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
    clips = [f'a clip with a long name and "quotes" {clip}' for clip in range(60)]
    for clip in clips:
        soundfile.write(directory / f"{clip}.wav", noise, 44_100)
    scores = replace(some_scores(clips=60, vocabulary=IRMAS), clip_ids=clips)
    report(directory, scores=scores, tree=directory)
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

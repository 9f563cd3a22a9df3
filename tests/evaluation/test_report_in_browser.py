"""The page in a real browser: nothing is fetched, nothing overflows, sound can be played."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from irmas_dist.evaluation.players import embedded
from irmas_dist.instruments import IRMAS
from tests.evaluation.test_report import report, some_scores

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--virtual-time-budget=5000", "--dump-dom"),
]
PROBE = """<script>addEventListener("load", () => {
  const player = document.querySelector("audio");
  player.preload = "metadata";
  player.addEventListener("loadedmetadata", () => document.body.prepend(Object.assign(
    document.createElement("output"), {textContent: JSON.stringify({
      overflow: document.documentElement.scrollWidth - innerWidth,
      fetched: performance.getEntriesByType("resource").map(e => e.name)
        .filter(name => !name.startsWith("data:")),
      background: getComputedStyle(document.body).backgroundColor,
      players: document.querySelectorAll("audio").length,
      seconds: player.duration,
    })})));
  player.load();
});</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    directory = tmp_path_factory.mktemp("page")
    noise = np.random.default_rng(0).normal(size=44_100) * 0.1
    soundfile.write(directory / "noise.wav", noise, 44_100)
    sound = embedded(directory / "noise.wav")
    scores = some_scores(clips=60, vocabulary=IRMAS)
    report(directory, scores=scores, player=lambda clip_id: sound)
    path = directory / "report.html"
    path.write_text(path.read_text().replace("</body>", PROBE))
    return path


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize(
    ("width", "scheme", "background"),
    [
        (1280, 1, "rgb(255, 255, 255)"),
        (1280, 0, "rgb(20, 23, 26)"),
        (500, 1, "rgb(255, 255, 255)"),  # no narrower window is to be had
    ],
)
def test_the_page_in_a_browser(page, tmp_path, width, scheme, background):
    shown = subprocess.run(
        [
            *(CHROMIUM, *QUIET, f"--user-data-dir={tmp_path}", f"--window-size={width},900"),
            *(f"--blink-settings=preferredColorScheme={scheme}", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    found = re.search(r"<output>(.*?)</output>", shown)
    assert found, shown[:500]
    measured = json.loads(found[1])
    assert measured["overflow"] <= 0
    assert measured["fetched"] == []
    assert measured["background"] == background
    assert measured["players"] == 10
    assert measured["seconds"] == pytest.approx(1, abs=0.2)

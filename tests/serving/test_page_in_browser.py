"""The page in a real browser: a file is chosen, its instruments are seen, heard and saved."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from irmas_dist import serving
from irmas_dist.corpus.mixdown import CANCELLED
from irmas_dist.inference.predictor import Predictor
from tests.browser import needs_chromium
from tests.devtools import Tab, tab
from tests.serving.opened_page import NOTE, SAVED, STATUS, page

pytestmark = needs_chromium

ALL_FETCHED = """performance.getEntriesByType("resource").map(e => e.name)
  .filter(name => !name.startsWith(location.origin) && !/^(data|blob):/.test(name))"""
RECORD = """new Promise(resolve => {
  const button = document.getElementById("record");
  button.click();
  setTimeout(() => (resolve(button.textContent), button.click()), 1500);
})"""
"""Records from the browser's fake microphone, as WebM, which the server does not read."""
DROP_TEXT = """(() => {
  const data = new DataTransfer();
  data.items.add(new File(["no audio"], "notes.txt"));
  dispatchEvent(new DragEvent("drop", {dataTransfer: data}));
})()"""
ELEMENTS = {
    ("heading", "Which instruments play?"), ("button", "Record"), ("status", ""),
    ("slider", "Position in the music"), ("columnheader", "Threshold"), ("rowheader", "cello"),
    ("button", "Save CSV"), ("button", "Save JSON"), ("link", "API"),
}  # fmt: skip
"""Roles and names by which a screen reader presents the page."""


async def heard(browser: Tab, file: Path) -> None:
    await browser.until("document.getElementById('about')?.textContent")
    await browser.choose("#file", file)
    await browser.until(f"/^Done/.test({STATUS})")


async def require_accessible(browser: Tab) -> None:
    """Require names and roles in what screen readers are given."""
    nodes = (await browser.do("Accessibility.getFullAXTree"))["nodes"]
    found = {
        (node["role"]["value"], node.get("name", {}).get("value", "")): {
            each["name"]: each["value"].get("value") for each in node.get("properties", ())
        }
        for node in nodes
        if not node["ignored"]
    }
    assert found.keys() >= ELEMENTS, found.keys()
    assert any("Drop a file here, or choose one" in name for _, name in found)
    assert found["slider", "Position in the music"]["valuemax"] > 5
    # Chromium leaves this out of the tree that it tells developers.
    text = await browser.value("document.getElementById('plot').getAttribute('aria-valuetext')")
    assert re.fullmatch(r"\d:\d\d: .+", text)
    assert found["status", ""]["live"] == "polite"


def test_a_file_is_heard_seen_and_saved(
    model: Path, excerpts: list[Path], predictor: Predictor, tmp_path: Path
) -> None:
    timeline = predictor.timeline(excerpts[0])
    plays = predictor.decide(timeline.scores)
    names = [predictor.description.instruments[code] for code in plays]
    song = shutil.copy(excerpts[0], tmp_path / "song.wav")
    (tmp_path / "profile").mkdir()

    async def scenario() -> None:
        async with page(model) as url, tab(tmp_path / "profile", url) as browser:
            await browser.look(375, "light")
            await heard(browser, Path(song))
            shown = "[...document.querySelectorAll('#plays li')].map(e => e.textContent)"
            assert sorted(await browser.value(shown)) == sorted(names)
            await browser.value("document.getElementById('plot').scrollIntoView()")
            box = await browser.value(
                "(({left, top, width}) => [left, top, width])"
                "(document.getElementById('plot').getBoundingClientRect())"
            )
            at = {"x": box[0] + box[2] / 2, "y": box[1] + 5, "button": "left", "clickCount": 1}
            for kind in ("mousePressed", "mouseReleased"):
                await browser.do("Input.dispatchMouseEvent", type=kind, **at)
            middle = await browser.value("document.getElementById('player').currentTime")
            assert middle == pytest.approx(timeline.ends[-1] / 2, abs=0.2)
            await browser.value("document.getElementById('plot').focus()")
            key = {"key": "ArrowRight", "code": "ArrowRight", "windowsVirtualKeyCode": 39}
            await browser.do("Input.dispatchKeyEvent", type="keyDown", **key)
            later = await browser.value("document.getElementById('player').currentTime")
            assert later == pytest.approx(middle + 1, abs=0.2)
            rows = (await browser.value(SAVED % "csv")).splitlines()
            assert rows[0] == ",".join(["start_s", "end_s", *timeline.codes])
            values = np.array([row.split(",") for row in rows[1:]], float)
            np.testing.assert_allclose(values[:, 2:], timeline.windows, atol=1e-5)
            await require_accessible(browser)
            assert await browser.value(ALL_FETCHED) == []
            for width, scheme in ((375, "light"), (375, "dark"), (1280, "light"), (1280, "dark")):
                await browser.look(width, scheme)
                wide = "document.documentElement.scrollWidth - innerWidth"
                assert await browser.value(wide) <= 0
                background = await browser.value("getComputedStyle(document.body).backgroundColor")
                assert (
                    background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
                )
                await browser.picture(tmp_path / f"{width}-{scheme}.png")
            assert await browser.value(RECORD) == "Stop"
            name = "document.getElementById('name').textContent"
            await browser.until(f"{name} === 'recording' && /^Done/.test({STATUS})")
            said = await browser.value(NOTE)
            assert said.startswith("decoded by the browser: the server does not know its format")
            (saved,) = json.loads(await browser.value(SAVED % "json"))["predictions"]
            assert saved["note"] in said
            await browser.value(DROP_TEXT)
            await browser.until(f"/cannot be decoded/.test({STATUS})")

    asyncio.run(scenario())


def test_the_page_takes_channels_for_cancelling_as_the_server_does() -> None:
    script = Path(serving.__file__).with_name("sound.js").read_text()
    (value,) = re.findall(r"const CANCELLED = (\S+);", script)
    assert float(value) == CANCELLED

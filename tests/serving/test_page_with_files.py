"""The page in a real browser, with files that the server does not know, or refuses."""

import json
import shutil
from pathlib import Path

import numpy as np

from irmas_dist.inference.predictor import Predictor
from tests.browser import needs_chromium
from tests.corpus.formats import content
from tests.devtools import Tab
from tests.serving.opened_page import NOTE, SAVED, STATUS, browsing

pytestmark = needs_chromium


def test_a_damaged_file_is_refused_although_the_browser_would_play_it(
    model: Path, tmp_path: Path
) -> None:
    whole = content("a.flac")
    (tmp_path / "half.flac").write_bytes(whole[: len(whole) // 2])

    async def choose(browser: Tab) -> None:
        await browser.choose("#file", tmp_path / "half.flac")
        await browser.until(f"/^(Done|half)/.test({STATUS})")
        assert "it is cut short or damaged" in await browser.value(STATUS)
        assert await browser.value("document.getElementById('result').hidden")

    browsing(choose, model)


def test_what_the_server_does_not_know_is_decoded_by_the_browser_and_said_to_be(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "odd.mp3").write_bytes(b"ODD " + content("a.mp3"))

    async def choose(browser: Tab) -> None:
        await browser.choose("#file", tmp_path / "odd.mp3")
        await browser.until(f"/^(Done|odd)/.test({STATUS})")
        assert (await browser.value(NOTE)).startswith("decoded by the browser: the server does not")

    browsing(choose, model)


def test_columns_and_rows_have_the_model_s_order_where_codes_are_numbers(
    model: Path, excerpts: list[Path], tmp_path: Path
) -> None:
    numbered = tmp_path / "numbered"
    shutil.copytree(model, numbered)
    description = json.loads((numbered / "model.json").read_text())
    codes = ["42", "0", *list(description["instruments"])[2:]]
    for key in ("instruments", "thresholds"):
        description[key] = dict(zip(codes, description[key].values(), strict=True))
    (numbered / "model.json").write_text(json.dumps(description))
    timeline = Predictor.load(numbered).timeline(excerpts[0])

    async def choose(browser: Tab) -> None:
        await browser.choose("#file", excerpts[0])
        await browser.until(f"/^Done/.test({STATUS})")
        rows = [line.split(",") for line in (await browser.value(SAVED % "csv")).splitlines()]
        assert rows[0] == ["start_s", "end_s", *codes]
        np.testing.assert_allclose(np.array(rows[1:], float)[:, 2:], timeline.windows, atol=1e-5)
        (saved,) = json.loads(await browser.value(SAVED % "json"))["predictions"]
        assert saved["timeline"]["codes"] == codes
        shown = "[...document.querySelectorAll('#rows li')].map(each => each.textContent)"
        assert await browser.value(shown) == list(description["instruments"].values())

    browsing(choose, numbered)

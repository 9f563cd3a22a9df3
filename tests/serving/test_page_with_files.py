"""The page in a real browser, with files that the server does not know, or refuses."""

from pathlib import Path

from tests.browser import needs_chromium
from tests.corpus.formats import content
from tests.devtools import Tab
from tests.serving.opened_page import NOTE, STATUS, browsing

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

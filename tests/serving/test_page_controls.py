"""The page's controls in a real browser: the same file again, tokens, other models."""

import asyncio
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.browser import needs_chromium
from tests.corpus.formats import content
from tests.devtools import Tab
from tests.serving.opened_page import STATUS, browsing

pytestmark = needs_chromium

TOKEN = "a token of some length"
WATCH_MICROPHONE = """(media => {
  const open = media.getUserMedia.bind(media);
  window.opened = [];
  media.getUserMedia = async what => (opened.push(...(await open(what)).getTracks()),
                                      new MediaStream(opened.slice(-1)));
})(navigator.mediaDevices)"""
STATES = "opened.map(track => track.readyState)"
RECORD_BUTTON = "document.getElementById('record')"


async def heard_again(browser: Tab) -> None:
    """Wait until a file has been heard, and forget that it was."""
    await browser.until(f"/^Done/.test({STATUS})")
    await browser.value(f"{STATUS} = ''")


def test_a_file_is_heard_again_when_it_or_another_model_is_chosen(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(content("a.wav"))

    async def choose(browser: Tab) -> None:
        await browser.do("Page.setInterceptFileChooserDialog", enabled=True)
        for _ in range(2):
            await browser.value("document.getElementById('file').click()")
            await browser.choose("#file", tmp_path / "a.wav")
            await heard_again(browser)
        await browser.value(
            "(models => (models.value = '1', models.dispatchEvent(new Event('change'))))"
            "(document.getElementById('model'))"
        )
        await heard_again(browser)

    browsing(choose, model, model)


def test_a_file_that_lacked_the_token_is_heard_once_it_is_entered(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(content("a.wav"))
    enter = (
        "document.getElementById('token').value = '%s', document.getElementById('enter').click()"
    )

    async def choose(browser: Tab) -> None:
        await browser.choose("#file", tmp_path / "a.wav")
        await browser.until(f"/^A token is needed/.test({STATUS})")
        await browser.value(enter % "another token")
        await browser.until(f"/^This token is wrong/.test({STATUS})")
        await browser.value(enter % TOKEN)
        await heard_again(browser)

    browsing(choose, model, token=hashlib.sha256(TOKEN.encode()).hexdigest())


@pytest.mark.parametrize(("ending", "plays"), [("aiff", False), ("wav", True)])
def test_a_file_that_the_browser_cannot_play_is_scored_and_the_note_says_so(
    ending: str, plays: bool, model: Path, excerpts: list[Path], tmp_path: Path
) -> None:
    samples, rate = soundfile.read(excerpts[0], dtype="int16")
    soundfile.write(tmp_path / f"a.{ending}", samples, rate)

    async def choose(browser: Tab) -> None:
        await browser.choose("#file", tmp_path / f"a.{ending}")
        await browser.until(f"/^Done/.test({STATUS})")
        note = "document.getElementById('note').textContent"
        if plays:
            await browser.until("document.getElementById('player').readyState > 0")
            assert "this browser cannot play the file" not in await browser.value(note)
        else:  # Browsers may know it later than the scores.
            await browser.until(f"/this browser cannot play the file/.test({note})")

    browsing(choose, model)


def test_two_clicks_on_record_open_the_microphone_once(model: Path) -> None:
    async def click(browser: Tab) -> None:
        await browser.value(WATCH_MICROPHONE)
        await browser.value(f"{RECORD_BUTTON}.focus()")
        await browser.value(f"{RECORD_BUTTON}.click(), {RECORD_BUTTON}.click()")
        await browser.until(f"{RECORD_BUTTON}.textContent === 'Stop'")
        # Who uses the keyboard can stop it at once, and who does not see it knows that it records.
        assert await browser.value(f"document.activeElement === {RECORD_BUTTON}")
        assert await browser.value(STATUS) == "Recording …"
        await asyncio.sleep(1)
        assert await browser.value(STATES) == ["live"]
        await browser.value(f"{RECORD_BUTTON}.click()")
        await heard_again(browser)
        assert await browser.value(STATES) == ["ended"]

    browsing(click, model)


@pytest.mark.parametrize("fails", ["constructor", "start"])
def test_a_recorder_that_fails_closes_the_microphone(model: Path, fails: str) -> None:
    broken = f"""MediaRecorder = class extends EventTarget {{
      constructor() {{ super(); if ("{fails}" === "constructor") throw new Error("no encoder"); }}
      start() {{ throw new Error("no encoder"); }}
    }}"""

    async def click(browser: Tab) -> None:
        await browser.value(WATCH_MICROPHONE)
        await browser.value(f"({broken}, {RECORD_BUTTON}.click())")
        await browser.until(f"{STATUS} === 'The microphone cannot be used: no encoder'")
        assert await browser.value(STATES) == ["ended"]
        await browser.value("MediaRecorder = class extends EventTarget { start() {} }")
        await browser.value(f"{RECORD_BUTTON}.click()")
        await browser.until(f"{RECORD_BUTTON}.textContent === 'Stop'")

    browsing(click, model)


def test_the_status_says_once_what_begins_and_the_bar_says_how_far(
    model: Path, excerpts: list[Path], tmp_path: Path
) -> None:
    samples, rate = soundfile.read(excerpts[0], dtype="int16")
    soundfile.write(tmp_path / "a.wav", np.tile(samples, (8, 1)), rate)
    watch = """(status => {
      window.said = []; window.shares = [];
      const watched = {childList: true, characterData: true, subtree: true, attributes: true};
      new MutationObserver(() => said.push(status.textContent)).observe(status, watched);
      const bar = document.getElementById("progress");
      new MutationObserver(() => shares.push(bar.value)).observe(bar, watched);
    })(document.getElementById("status"))"""

    async def choose(browser: Tab) -> None:
        await browser.value(watch)
        await browser.choose("#file", tmp_path / "a.wav")
        await browser.until(f"/^Done/.test({STATUS})")
        *begun, done = await browser.value("said")
        assert begun == ["Sending a.wav …", "Listening …"]
        assert done.startswith("Done")
        assert len({share for share in await browser.value("shares") if share}) > 1

    browsing(choose, model)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_error_can_be_read(model: Path, tmp_path: Path, scheme: str) -> None:
    """The contrast of text is 4.5 at least, as WCAG's level AA wants it."""
    (tmp_path / "empty.wav").touch()

    async def choose(browser: Tab) -> None:
        await browser.look(1280, scheme)
        await browser.choose("#file", tmp_path / "empty.wav")
        await browser.until("document.getElementById('status').classList.contains('error')")
        style = "getComputedStyle(document.%s"
        colours = [
            await browser.value(style % "getElementById('status')).color"),
            await browser.value(style % "body).backgroundColor"),
        ]
        dark, light = sorted(map(luminance, colours))
        assert (light + 0.05) / (dark + 0.05) >= 4.5

    browsing(choose, model)


def luminance(colour: str) -> float:
    """Return the relative luminance, from 0 to 1, of ``rgb(…)``."""
    shares = [int(each) / 255 for each in re.findall(r"\d+", colour)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


DROP = """(names => {
  const data = new DataTransfer();
  for (const name of names) data.items.add(new File(["no audio"], name));
  dispatchEvent(new DragEvent("drop", {dataTransfer: data}));
})"""


def test_the_foot_says_what_figures_are_of_and_one_file_is_dropped_at_a_time(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(content("a.wav"))

    async def drop(browser: Tab) -> None:
        about = await browser.value("document.getElementById('about').textContent")
        assert "On mixtures of held-out training clips, at its thresholds: micro F1 0.625" in about
        await browser.choose("#file", tmp_path / "a.wav")
        await heard_again(browser)
        await browser.value(f"{DROP}(['b.wav', 'c.wav'])")
        assert await browser.value(STATUS) == "2 files: drop one at a time."
        await browser.value(f"{DROP}(['b.wav'])")
        await browser.until(f"/^b.wav: /.test({STATUS})")
        assert await browser.value("document.getElementById('file').value") == ""

    browsing(drop, model)


def test_a_file_is_played_from_its_beginning(model: Path, tmp_path: Path) -> None:
    """Also after one that the browser cannot play, whose position would be the next one's."""
    (tmp_path / "a.wav").write_bytes(content("a.wav"))
    soundfile.write(tmp_path / "a.aiff", np.zeros(44_100, np.int16), 22_050)
    player = "document.getElementById('player')"

    async def choose(browser: Tab) -> None:
        await browser.choose("#file", tmp_path / "a.aiff")
        await heard_again(browser)
        await browser.value(f"{player}.currentTime = 0.5")
        await browser.choose("#file", tmp_path / "a.wav")
        await heard_again(browser)
        await browser.until(f"{player}.readyState > 0")
        assert await browser.value(f"{player}.currentTime") == 0

    browsing(choose, model)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("window.fetch = async () => { throw new TypeError('Failed to fetch'); }",
         "The server does not answer: try again."),
        ("document.getElementById('token').value = 'é€'", "This token is wrong."),
    ],
)  # fmt: skip
def test_errors_are_the_page_s_own(model: Path, broken: str, said: str) -> None:
    async def enter(browser: Tab) -> None:
        await browser.value(f"({broken}, 0)")
        await browser.value("document.getElementById('form').requestSubmit()")
        await browser.until(f"{STATUS} === '{said}'")

    browsing(enter, model)

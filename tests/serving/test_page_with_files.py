"""The page in a real browser, with files that the server does not know, or refuses."""

import csv
import io
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from irmas_dist.inference.predictor import Predictor
from tests.browser import needs_chromium
from tests.corpus.formats import content
from tests.devtools import Tab
from tests.serving.opened_page import NOTE, SAVED, STATUS, browsing

pytestmark = needs_chromium


def matroska(samples: np.ndarray, rate: int) -> bytes:
    """Return int16 samples, shape (samples, channels), in a container that browsers alone know."""

    def element(name: str, *content: bytes) -> bytes:
        joined = b"".join(content)
        return bytes.fromhex(name) + struct.pack(">Q", 1 << 56 | len(joined)) + joined

    def number(value: int) -> bytes:
        return struct.pack(">Q", value)

    head = element("1A45DFA3", element("4282", b"matroska"), element("4287", number(4)))
    sound = [
        ("B5", struct.pack(">d", rate)),
        ("9F", number(samples.shape[1])),
        ("6264", number(16)),
    ]
    track = [("D7", number(1)), ("73C5", number(1)), ("83", number(2)), ("86", b"A_PCM/INT/LIT")]
    entry = element("AE", *(element(*each) for each in track),
                    element("E1", *(element(*each) for each in sound)))  # fmt: skip
    blocks = [
        element("A3", b"\x81", struct.pack(">hB", 1000 * at // rate, 0x80),
                samples[at : at + rate // 10].tobytes())
        for at in range(0, len(samples), rate // 10)
    ]  # fmt: skip
    scale = element("1549A966", element("2AD7B1", number(1_000_000)))
    cluster = element("1F43B675", element("E7", number(0)), *blocks)
    return head + element("18538067", scale, element("1654AE6B", entry), cluster)


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


CUT = """(real => { window.fetch = async (...given) => {
  const text = await (await real(...given)).text();
  const cut = new TextEncoder().encode(text.slice(0, text.indexOf("event: end")));
  return new Response(new ReadableStream({start(stream) {
    stream.enqueue(cut);
    window.lose = () => stream.close();
  }}));
}; })(window.fetch)"""
"""Keeps the end of an answer back, until the connection is lost."""


def test_nothing_of_the_file_before_is_shown_beside_another(
    model: Path, excerpts: list[Path]
) -> None:
    hidden = "[...['result', 'whole'].map(id => document.getElementById(id).hidden)]"

    async def choose(browser: Tab) -> None:
        await browser.choose("#file", excerpts[0])
        await browser.until(f"/^Done/.test({STATUS})")
        assert await browser.value(hidden) == [False, False]
        await browser.value(CUT)
        await browser.choose("#file", excerpts[1])
        await browser.until(f"!{hidden}[0]")
        assert await browser.value(hidden) == [False, True]
        await browser.value("lose()")
        await browser.until(f"/^The connection was lost/.test({STATUS})")
        assert await browser.value(hidden + "[0]")

    browsing(choose, model)


HEARD = """import("/map.js").then(({HeatMap}) => {
  const map = new HeatMap();
  map.player = {duration: 2, currentTime: 0};
  map.begin({codes: ["a", "b"], instruments: {a: "A", b: "B"}, thresholds: {a: .5, b: .9}, ...%s});
  map.add({starts: [0, .5, 1], ends: [1, 1.5, 2], windows: %s});
  return [0.7, 0.8, 1.2, 1.3, 1.9].map(at => {
    map.player.currentTime = at;
    map.follow();
    return document.getElementById("here").textContent.slice("0:00: ".length);
  });
})"""


@pytest.mark.parametrize(
    ("facts", "windows", "heard"),
    [
        ({}, [[0.6, 0], [0, 0.95], [0.7, 0]], ["A", "B", "B", "A", "A"]),
        # Of a rule that divides by the score of the surest instrument, which thresholds belong to.
        ({"relative": True}, [[0.2, 0], [0.1, 0.3], [0, 0]], ["A", "B", "B", *[""] * 2]),
    ],
)
def test_what_is_said_to_play_is_what_the_map_shows_there(
    model: Path, facts: dict[str, bool], windows: list[list[float]], heard: list[str]
) -> None:
    async def look(browser: Tab) -> None:
        said = await browser.value(HEARD % (json.dumps(facts), json.dumps(windows)))
        assert said == [each or "none above its threshold" for each in heard]

    browsing(look, model)


def test_codes_with_commas_and_quotes_are_quoted_in_csv(model: Path) -> None:
    timeline = {"codes": ["sax, alto", 'a "b"'], "starts": [0], "ends": [1], "windows": [[0.5, 1]]}

    async def look(browser: Tab) -> None:
        script = f"import('/page.js').then(({{csv}}) => csv({{timeline: {json.dumps(timeline)}}}))"
        rows = list(csv.reader(io.StringIO(await browser.value(script))))
        assert rows == [["start_s", "end_s", *timeline["codes"]], ["0.000", "1.000", "0.5", "1"]]

    browsing(look, model)


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


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ((0, 0, 1, 0, 0, 0), ""),
        ((0.98, -1), "its channels cancel each other: the louder, channel 2"),
    ],
)
def test_all_channels_are_heard_that_the_browser_decodes(
    model: Path, excerpts: list[Path], predictor: Predictor, tmp_path: Path,
    gains: tuple[float, ...], said: str,
) -> None:  # fmt: skip
    samples, rate = soundfile.read(excerpts[0], dtype="int16")
    channels = (samples[:, :1] * np.array(gains)).astype("<i2")
    soundfile.write(tmp_path / "same.wav", channels, rate)
    (tmp_path / "a.mka").write_bytes(matroska(channels, rate))
    timeline = predictor.timeline(tmp_path / "same.wav")

    async def choose(browser: Tab) -> None:
        await browser.choose("#file", tmp_path / "a.mka")
        await browser.until(f"/^(Done|a.mka)/.test({STATUS})")
        (saved,) = json.loads(await browser.value(SAVED % "json"))["predictions"]
        np.testing.assert_allclose(saved["timeline"]["windows"], timeline.windows, atol=0.05)
        assert saved["note"].startswith(said)
        assert timeline.note is None or saved["note"].startswith(timeline.note)

    browsing(choose, model)


def test_what_is_too_large_once_decoded_is_refused_with_both_reasons(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "odd.mp3").write_bytes(b"ODD " + content("a.mp3", 8))

    async def choose(browser: Tab) -> None:
        await browser.choose("#file", tmp_path / "odd.mp3")
        await browser.until(f"/^(Done|odd)/.test({STATUS})")
        assert await browser.value(STATUS) == (
            "odd.mp3: cannot be decoded: Format not recognised; the browser has decoded it, but "
            "the upload is larger than the 0.2 MB that are allowed"
        )

    browsing(choose, model, max_megabytes=0.2)

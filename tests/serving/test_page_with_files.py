"""The page in a real browser, with files that the server does not know, or refuses."""

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

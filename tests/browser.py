"""Pages in a real browser, as people see them: Chromium without a window."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--virtual-time-budget=5000", "--dump-dom"),
]
COMMON = """{
  overflow: document.documentElement.scrollWidth - innerWidth,
  fetched: performance.getEntriesByType("resource").map(e => e.name)
    .filter(name => !name.startsWith("data:")),
  background: getComputedStyle(document.body).backgroundColor,
}"""

LOOKS = [
    (1280, "light", "rgb(255, 255, 255)"),
    (1280, "dark", "rgb(20, 23, 26)"),
    (500, "light", "rgb(255, 255, 255)"),  # no narrower window is to be had
]
"""Width of the window, colour scheme, and the background that a page then has."""

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def dom(url: str, profile: Path, width: int = 1280, scheme: str = "light") -> str:
    """Return a page's elements after its scripts have run."""
    assert CHROMIUM is not None
    return subprocess.run(
        [
            *(CHROMIUM, *QUIET, f"--user-data-dir={profile}", f"--window-size={width},900"),
            *(f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", url),
        ],
        capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip


def measure(
    page: Path, profile: Path, width: int, scheme: str, more: str = "({})"
) -> dict[str, Any]:
    """Measure a page: how far it is too wide, what it fetched, and its background.

    Args:
        page: An HTML file.
        profile: An empty directory for the browser's own files.
        width: Of the window, in pixels.
        scheme: ``light`` or ``dark``.
        more: What else to measure, JavaScript for an object or a promise of one.
    """
    probe = f"""<script>addEventListener("load", async () => {{
      const found = {{...{COMMON}, ...await {more}}};
      document.body.prepend(Object.assign(
        document.createElement("output"), {{textContent: JSON.stringify(found)}}));
    }});</script></body>"""
    probed = profile / "probed.html"
    probed.write_text(page.read_text().replace("</body>", probe))
    shown = dom(probed.as_uri(), profile, width, scheme)
    found = re.search(r"<output>(.*?)</output>", shown)
    assert found, shown[:500]
    result: dict[str, Any] = json.loads(found[1])
    return result

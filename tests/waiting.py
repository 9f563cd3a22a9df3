"""Waiting for what another process does."""

import time
from collections.abc import Callable


def wait_for(
    condition: Callable[[], object],
    seconds: float = 240,
    *,
    every: float = 0.02,
    why: Callable[[], str] = lambda: "",
) -> None:
    """Wait until a condition holds; fail after so many seconds, with the text of ``why``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {seconds:g} s: {why()}"
        time.sleep(every)

"""Readers are processes that may crash or hang: they are killed, replaced, and leave nothing."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irmas_dist.errors import AudioError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.serving.models import ServedModel
from irmas_dist.serving.readers import Readers


def reading(predictor: Predictor) -> dict[str, Any]:
    return ServedModel("a", "", "", predictor.description).reading


async def read(readers: Readers, content: bytes, predictor: Predictor) -> np.ndarray:
    notes: list[str] = []
    windows = readers.windows(content, reading(predictor), 600, notes)
    return np.concatenate([each async for _, each in windows])


def test_a_reader_that_is_killed_costs_its_own_upload_only(
    excerpts: list[Path], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    content = excerpts[0].read_bytes()

    async def scenario() -> None:
        readers = Readers(1)
        readers.start()
        before = await read(readers, content, predictor)
        (reader,) = readers._running
        process = reader.process
        assert b"secret" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await read(readers, content, predictor)
        np.testing.assert_array_equal(await read(readers, content, predictor), before)
        (reader,) = readers._running
        os.kill(reader.process.pid, signal.SIGKILL)
        with pytest.raises(AudioError, match="its decoder has crashed"):
            await read(readers, content, predictor)
        with pytest.raises(AudioError, match="cannot be decoded"):
            await read(readers, b"fLaC and no more", predictor)
        np.testing.assert_array_equal(await read(readers, content, predictor), before)
        (last,) = readers._running
        await readers.close()
        assert not Path(f"/proc/{last.process.pid}/cmdline").exists()

    asyncio.run(scenario())

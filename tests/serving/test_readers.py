"""Readers are processes that may crash or hang: they are killed, replaced, and leave nothing."""

import asyncio
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from irmas_dist.errors import AudioError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.serving.models import ServedModel
from irmas_dist.serving.readers import Readers
from tests.serving.conftest import Serve


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
    samples, rate = soundfile.read(excerpts[0], dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, np.tile(samples, (20, 1)), rate, format="WAV")
    long = file.getvalue()

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
        windows = readers.windows(long, reading(predictor), 600, [])
        await anext(windows)
        (reader,) = readers._running
        os.kill(reader.process.pid, signal.SIGKILL)
        with pytest.raises(AudioError, match="its decoder has crashed"):
            [each async for each in windows]
        with pytest.raises(AudioError, match="cannot be decoded"):
            await read(readers, b"fLaC and no more", predictor)
        np.testing.assert_array_equal(await read(readers, content, predictor), before)
        (last,) = readers._running
        await readers.close()
        assert not Path(f"/proc/{last.process.pid}/cmdline").exists()

    asyncio.run(scenario())


@pytest.mark.parametrize("known", [True, False])
def test_a_reader_that_is_killed_while_it_waits_costs_no_upload(
    excerpts: list[Path], predictor: Predictor, known: bool
) -> None:
    content = excerpts[0].read_bytes()

    async def scenario() -> None:
        readers = Readers(1)
        readers.start()
        before = await read(readers, content, predictor)
        (reader,) = readers._running
        # Stopped, it leaves what it is sent unread, as one that dies at this moment does.
        os.kill(reader.process.pid, signal.SIGKILL if known else signal.SIGSTOP)
        if known:
            await reader.process.wait()
        else:
            while ") T " not in Path(f"/proc/{reader.process.pid}/stat").read_text():
                await asyncio.sleep(0.01)
        reading_again = asyncio.create_task(read(readers, content, predictor))
        if not known:
            await asyncio.sleep(0.2)
            os.kill(reader.process.pid, signal.SIGKILL)
        np.testing.assert_array_equal(await reading_again, before)
        await readers.close()

    asyncio.run(scenario())


def test_a_reader_that_becomes_ready_as_its_request_ends_serves_the_next(
    predictor: Predictor, excerpts: list[Path]
) -> None:
    async def scenario() -> None:
        readers = Readers(1)
        readers.start()
        starting = readers._idle._queue[0]  # type: ignore[attr-defined]
        asked = asyncio.create_task(read(readers, b"", predictor))
        await asyncio.sleep(0)
        starting.add_done_callback(lambda _: asked.cancel())
        with pytest.raises(asyncio.CancelledError):
            await asked
        await read(readers, excerpts[0].read_bytes(), predictor)
        assert len(readers._running) == 1
        await readers.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/program"])
def test_uploads_are_told_to_come_back_while_no_reader_starts(
    asking: Serve, excerpts: list[Path], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    content = excerpts[0].read_bytes()

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        failed = await client.post("/v1/predict", content=content)
        unwell = await client.get("/healthz")
        monkeypatch.undo()
        while (await client.get("/healthz")).status_code != 200:
            await asyncio.sleep(0.2)
        return [failed, unwell, await client.post("/v1/predict", content=content)]

    failed, unwell, fine = asking(ask)
    assert [each.status_code for each in (failed, unwell, fine)] == [503, 503, 200]
    assert failed.headers["retry-after"] == "1"
    assert failed.json() == {"error": "the upload cannot be read now: try again"}


def test_a_reader_that_does_not_start_again_costs_no_upload_while_there_is_another(
    excerpts: list[Path], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = excerpts[0].read_bytes()

    async def scenario() -> None:
        readers = Readers(2)
        readers.start()
        before = await read(readers, content, predictor)
        await read(readers, content, predictor)
        killed, _ = readers._running
        monkeypatch.setattr(sys, "executable", "/bin/false")
        os.kill(killed.process.pid, signal.SIGKILL)
        await killed.process.wait()
        for _ in range(5):
            np.testing.assert_array_equal(await read(readers, content, predictor), before)
            assert readers.ready()
            await asyncio.sleep(0.1)
        monkeypatch.undo()
        readers.ready()
        two = asyncio.gather(*(read(readers, content, predictor) for _ in range(2)))
        assert len(await two) == len(readers._running) == 2
        await readers.close()

    asyncio.run(scenario())

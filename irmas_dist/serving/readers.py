"""A pool of `reader` processes: each reads one upload at a time, and is killed when it does not."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.errors import AudioError
from irmas_dist.training.model_directory import ModelDescription

LINE_LIMIT = 1 << 20
"""Bytes that are buffered of an answer, and longest header; the reader waits beyond them."""

INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "NUMBA_CACHE_DIR")
"""Environment of a reader: no keys and no tokens."""


class Readers:
    """Processes that decode audio and compute spectrograms.

    Args:
        count: How many, which is also how many uploads are read at a time.
    """

    def __init__(self, count: int) -> None:
        self._idle: asyncio.Queue[asyncio.Task[Process]] = asyncio.Queue()
        self._count = count
        self._running: set[Process] = set()

    def start(self) -> None:
        """Start the processes; they need a second, during which requests wait."""
        for _ in range(self._count):
            self._idle.put_nowait(asyncio.create_task(self._started()))

    async def close(self) -> None:
        """Kill the processes."""
        while not self._idle.empty():
            self._idle.get_nowait().cancel()
        for process in list(self._running):
            await self._end(process)

    async def windows(
        self, content: bytes, model: ModelDescription, longest_s: float, notes: list[str]
    ) -> AsyncGenerator[tuple[list[int], npt.NDArray[Any]]]:
        """Read an upload.

        A reader that does not come to its end, for whatever reason, is killed and replaced.

        Args:
            content: An audio file.
            model: Its features and windows are computed.
            longest_s: Length of the longest audio that is not refused, in seconds.
            notes: What is unusual of the audio is appended, at the end.

        Yields:
            The first frames of some windows, and these, shape (windows, bands, frames).

        Raises:
            AudioError: It cannot be decoded, is too long, or brought its reader down.
        """
        task = await self._idle.get()
        process = None
        try:
            process = await asyncio.shield(task)
            request = {
                "size": len(content),
                "settings": model.features.model_dump(mode="json"),
                "frames": model.windows.frames,
                "hop_frames": model.windows.hop_frames,
                "longest_s": longest_s,
            }
            async for header, payload in _answers(process, request, content):
                if header["kind"] == "end":
                    notes += header["notes"]
                    break
                if header["kind"] == "error":
                    raise AudioError(header["message"])
                yield header["offsets"], payload
        except AudioError:
            self._idle.put_nowait(task)
            raise
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            await self._replace(task, process)
            raise AudioError("cannot be decoded: its decoder has crashed") from error
        except BaseException:  # GeneratorExit and timeouts, too
            await self._replace(task, process)
            raise
        self._idle.put_nowait(task)

    async def _replace(self, task: asyncio.Task[Process], process: Process | None) -> None:
        # The next one waits for the new process, not for the end of this one.
        self._idle.put_nowait(
            task if process is None and not task.done() else asyncio.create_task(self._started())
        )
        if process is not None:
            await self._end(process)

    async def _end(self, process: Process) -> None:
        self._running.discard(process)
        with suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())

    async def _started(self) -> Process:
        root = str(Path(__file__).parents[2])
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
            "OMP_NUM_THREADS": "1",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "irmas_dist.serving.reader"),
            stdin=PIPE, stdout=PIPE, stderr=None, limit=LINE_LIMIT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        self._running.add(process)
        assert process.stdout is not None
        await process.stdout.readline()  # that it is ready
        return process


async def _answers(
    process: Process, request: dict[str, Any], content: bytes
) -> AsyncGenerator[tuple[dict[str, Any], npt.NDArray[Any]]]:
    """Send a request, and yield the headers and arrays of the answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.write(content)
    await process.stdin.drain()
    while line := await process.stdout.readline():
        header = json.loads(line)
        payload = await process.stdout.readexactly(header["size"])
        kind = np.dtype(header.get("type", "<f4"))
        yield header, np.frombuffer(payload, kind).reshape(header.get("shape", (0,)))
    raise EOFError

"""A pool of `reader` processes: each reads one upload at a time, and is killed when it does not."""

import asyncio
import json
import os
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from irmas_dist.errors import AudioError, UnknownFormatError
from irmas_dist.serving import messages

LINE_LIMIT = 1 << 20
"""Bytes that are buffered of an answer, and longest header; the reader waits beyond them."""

INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "NUMBA_CACHE_DIR")
"""Environment of a reader: no keys and no tokens."""


def module_path() -> str:
    """Return the ``PYTHONPATH`` with which a subprocess finds the modules that this one does."""
    return os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])


@dataclass(frozen=True, eq=False)
class Reader:
    """A process that reads uploads, and the socket on which it is sent requests."""

    process: Process
    requests: socket.socket


class Readers:
    """Processes that decode audio and compute spectrograms.

    Args:
        count: How many, which is also how many uploads are read at a time.
    """

    def __init__(self, count: int) -> None:
        self._idle: asyncio.Queue[asyncio.Task[Reader]] = asyncio.Queue()
        self._count = count
        self._running: set[Reader] = set()

    def start(self) -> None:
        """Start the processes; they need a second, during which requests wait."""
        for _ in range(self._count):
            self._idle.put_nowait(asyncio.create_task(self._started()))

    async def close(self) -> None:
        """Kill the processes."""
        while not self._idle.empty():
            self._idle.get_nowait().cancel()
        for reader in list(self._running):
            await self._end(reader)

    async def windows(
        self, content: bytes, reading: Mapping[str, Any], longest_s: float, notes: list[str]
    ) -> AsyncGenerator[tuple[list[int], npt.NDArray[Any]]]:
        """Read an upload.

        A reader that does not come to its end, for whatever reason, is killed and replaced.

        Args:
            content: An audio file.
            reading: What to compute of it, as `ServedModel.reading` says.
            longest_s: Length of the longest audio that is not refused, in seconds.
            notes: What is unusual of the audio is appended, at the end.

        Yields:
            The first frames of some windows, and these, shape (windows, bands, frames).

        Raises:
            AudioError: It cannot be decoded, is too long, or brought its reader down; an
                `UnknownFormatError` where its format is not known.
        """
        task = await self._idle.get()
        reader = None
        try:
            reader = await asyncio.shield(task)
            request = {**reading, "longest_s": longest_s}
            async for header, payload in _answers(reader, request, content):
                if header["kind"] == "end":
                    notes += header["notes"]
                    break
                if header["kind"] == "error":
                    kind = UnknownFormatError if header["unknown"] else AudioError
                    raise kind(header["message"])
                yield header["offsets"], payload
        except AudioError:
            self._idle.put_nowait(task)
            raise
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            await self._replace(task, reader)
            raise AudioError("cannot be decoded: its decoder has crashed") from error
        except BaseException:  # GeneratorExit and timeouts, too
            await self._replace(task, reader)
            raise
        self._idle.put_nowait(task)

    async def _replace(self, task: asyncio.Task[Reader], reader: Reader | None) -> None:
        # The next one waits for the new process, not for the end of this one.
        self._idle.put_nowait(
            task if reader is None and not task.done() else asyncio.create_task(self._started())
        )
        if reader is not None:
            await self._end(reader)

    async def _end(self, reader: Reader) -> None:
        self._running.discard(reader)
        reader.requests.close()
        with suppress(ProcessLookupError):
            reader.process.kill()
        await asyncio.shield(reader.process.wait())

    async def _started(self) -> Reader:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {
            "PYTHONPATH": module_path(),
            "OMP_NUM_THREADS": "1",
        }
        requests, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "irmas_dist.serving.reader"),
                stdin=theirs.fileno(), stdout=PIPE, stderr=None, limit=LINE_LIMIT, env=environment,
                start_new_session=True,
            )  # fmt: skip
        reader = Reader(process, requests)
        self._running.add(reader)
        assert process.stdout is not None
        await process.stdout.readline()  # that it is ready
        return reader


async def _answers(
    reader: Reader, request: dict[str, Any], content: bytes
) -> AsyncGenerator[messages.Message]:
    """Send a request, and yield the messages of the answer."""
    answers = reader.process.stdout
    assert answers is not None
    with _in_memory(content) as audio:
        # It waits for requests, and this one fits into the socket's buffer.
        socket.send_fds(reader.requests, [json.dumps(request).encode() + b"\n"], [audio])
    while True:
        yield await messages.receive(answers)


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """Yield the descriptor of a file on no disk; where there is no such thing, of a deleted one."""
    if hasattr(os, "memfd_create"):
        file: Any = os.fdopen(os.memfd_create("audio"), "wb")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    with file:
        file.write(content)
        file.flush()
        file.seek(0)  # Where /dev/fd is no new opening, it is read from here.
        yield file.fileno()

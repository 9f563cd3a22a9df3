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


class ReaderError(Exception):
    """No process reads an upload, which is not the upload's fault."""


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
        self._failing = False

    def start(self) -> None:
        """Start the processes; they need a second, during which requests wait."""
        for _ in range(self._count):
            self._idle.put_nowait(self._starting())

    def ready(self) -> bool:
        """Return whether there is a process, or one starts; those that did not, start again."""
        self._revive()
        alive = any(reader.process.returncode is None for reader in self._running)
        return alive or not self._failing

    def _revive(self) -> None:
        """Start those again that did not start; put those first that have."""
        tasks = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        tasks = [self._starting() if _has_failed(task) else task for task in tasks]
        for task in sorted(tasks, key=lambda task: not task.done()):
            self._idle.put_nowait(task)

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

        A reader that does not come to its end, for whatever reason, is killed and replaced. One
        that has ended before it took the upload, such as by the kernel for lack of memory, is
        replaced first.

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
            ReaderError: There is no reader.
        """
        self._revive()
        task = await self._idle.get()
        reader = None
        request = {**reading, "longest_s": longest_s}
        try:
            reader = await asyncio.shield(task)
            try:
                header, payload = await _first_answer(reader, request, content)
            except ConnectionError:  # it has ended while it waited
                await self._end(reader)
                self._idle.put_nowait(self._starting())
                self._revive()
                task, reader = self._idle.get_nowait(), None
                reader = await asyncio.shield(task)
                header, payload = await _first_answer(reader, request, content)
            while True:
                if header["kind"] == "end":
                    notes += header["notes"]
                    break
                if header["kind"] == "error":
                    kind = UnknownFormatError if header["unknown"] else AudioError
                    raise kind(header["message"])
                yield header["offsets"], payload
                header, payload = await _answer(reader)
        except AudioError:
            self._idle.put_nowait(task)
            raise
        except OSError as error:
            await self._replace(task, reader)
            raise ReaderError(f"no process reads uploads: {error}") from error
        except (EOFError, ValueError, LookupError, TypeError) as error:
            await self._replace(task, reader)
            raise AudioError("cannot be decoded: its decoder has crashed") from error
        except BaseException:  # GeneratorExit and timeouts, too
            await self._replace(task, reader)
            raise
        self._idle.put_nowait(task)

    async def _replace(self, task: asyncio.Task[Reader], reader: Reader | None) -> None:
        # The next one waits for the new process, not for the end of this one.
        kept = reader is None and not _has_failed(task)
        self._idle.put_nowait(task if kept else self._starting())
        if reader is not None:
            await self._end(reader)

    async def _end(self, reader: Reader) -> None:
        self._running.discard(reader)
        reader.requests.close()
        await _killed(reader)

    def _starting(self) -> asyncio.Task[Reader]:
        return asyncio.create_task(self._started())

    async def _started(self) -> Reader:
        try:
            reader = await self._launched()
        except OSError:
            self._failing = True
            raise
        self._failing = False
        return reader

    async def _launched(self) -> Reader:
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
        if not await process.stdout.readline():  # that it is ready
            await self._end(reader)
            raise ChildProcessError("it ends when it starts")
        return reader


def _has_failed(task: asyncio.Task[Reader]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


async def _killed(reader: Reader) -> None:
    with suppress(ProcessLookupError):
        reader.process.kill()
    await asyncio.shield(reader.process.wait())


async def _first_answer(
    reader: Reader, request: dict[str, Any], content: bytes
) -> messages.Message:
    """Send a request, and return the first message of the answer.

    Raises:
        ConnectionError: The process had ended before it took the request.
    """
    with _in_memory(content) as audio:
        # It waits for requests, and this one fits into the socket's buffer.
        socket.send_fds(reader.requests, [json.dumps(request).encode() + b"\n"], [audio])
    try:
        return await _answer(reader)
    except EOFError:
        await _killed(reader)  # else its end of the socket may still be open
        with suppress(BlockingIOError):
            # Reset where the process has left the request in it.
            reader.requests.recv(1, socket.MSG_DONTWAIT)
        raise


async def _answer(reader: Reader) -> messages.Message:
    assert reader.process.stdout is not None
    return await messages.receive(reader.process.stdout)


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

"""The replica's side of its `scorer`."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.errors import IrmasError
from irmas_dist.serving import messages
from irmas_dist.serving.models import ServedModel
from irmas_dist.serving.readers import LINE_LIMIT, module_path


class ScoringError(Exception):
    """Windows could not be scored."""


class Scoring:
    """A subprocess that scores windows with the models of a replica, one message at a time.

    Args:
        device: Where to score.
        threads: With how many threads, on a CPU.
        limit_s: After how long without an answer it is taken to hang, and killed.
        on_end: Called when it ends by itself, with its exit status.
    """

    def __init__(
        self, device: str, threads: int, limit_s: float, on_end: Callable[[int], None]
    ) -> None:
        self._arguments = (device, str(threads))
        self._limit_s = limit_s
        self._on_end = on_end
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def load(self, model: ServedModel, weights: bytes) -> None:
        """Load a model.

        Raises:
            IrmasError: It is damaged.
            ScoringError: The process has ended, hangs, or lacks the memory.
        """
        description = model.description.model_dump(mode="json")
        facts = {"digest": model.digest, "directory": model.directory, "description": description}
        await self._ask("load", np.frombuffer(weights, np.uint8), **facts)

    async def keep(self, models: Iterable[ServedModel]) -> None:
        """Forget all other models."""
        await self._ask("keep", digests=sorted({model.digest for model in models}))

    async def score(self, digest: str, windows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Score windows, shape (windows, bands, frames), with a model that is loaded.

        Returns:
            The scores of each member, shape (windows, members, instruments).

        Raises:
            ScoringError: The process has ended, hangs, or the windows need too much memory.
        """
        return await self._ask("score", windows, digest=digest)

    async def close(self) -> None:
        """Kill the process."""
        if self._watch is not None:
            self._watch.cancel()
        if self._process is not None:
            self._kill(self._process)
            await self._process.wait()

    async def _ask(
        self, kind: str, values: npt.NDArray[Any] | None = None, **facts: Any
    ) -> npt.NDArray[Any]:
        async with self._turn:
            process = self._process = self._process or await self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                async with asyncio.timeout(self._limit_s):
                    process.stdin.write(messages.as_bytes(kind, values, **facts))
                    await process.stdin.drain()
                    header, found = await messages.receive(process.stdout)
            except (OSError, EOFError, RuntimeError) as error:  # uvloop raises RuntimeError
                self._kill(process)
                # A replica ends then: a client told sooner might ask it again.
                assert self._watch is not None
                await asyncio.wait([self._watch])
                hangs = isinstance(error, TimeoutError)
                reason = f"no scores within {self._limit_s:g} s"
                raise ScoringError(
                    reason if hangs else "the process that scores has ended"
                ) from error
            except BaseException:  # Another message would get the answer to this one.
                self._kill(process)
                raise
        if header["kind"] == "refused":
            raise IrmasError(header["message"])
        if header["kind"] == "error":
            raise ScoringError(header["message"])
        return found

    async def _started(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "irmas_dist.serving.scorer", *self._arguments),
            stdin=PIPE, stdout=PIPE, stderr=None, limit=LINE_LIMIT,
            env=os.environ | {"PYTHONPATH": module_path()}, start_new_session=True,
        )  # fmt: skip
        self._watch = asyncio.create_task(self._watched(process))
        return process

    async def _watched(self, process: Process) -> None:
        self._on_end(await process.wait())

    @staticmethod
    def _kill(process: Process) -> None:
        with suppress(ProcessLookupError):
            process.kill()

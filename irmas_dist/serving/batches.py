"""Batches of the windows of concurrent requests."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ScoreBatch = Callable[[str, npt.NDArray[Any]], Awaitable[npt.NDArray[np.float32]]]
"""Scores windows, shape (windows, bands, frames), with the model of a digest."""


@dataclass(frozen=True, eq=False)
class _Item:
    digest: str
    windows: npt.NDArray[Any]
    scores: asyncio.Future[npt.NDArray[np.float32]]


class Batches:
    """Scores together what has come while the batch before was computed.

    `ray.serve.batch` computes each request alone unless it waits for others: with nothing to wait
    for, Ray 2.60 closes a batch at once, also while an earlier one is being computed.

    Args:
        most: Windows that several requests may have in a batch; one alone may have more.
        score: Scores a batch.
    """

    def __init__(self, most: int, score: ScoreBatch) -> None:
        self._most, self._score_batch = most, score
        self._waiting: list[_Item] = []
        self._task: asyncio.Task[None] | None = None

    async def score(self, digest: str, windows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Score windows, shape (windows, bands, frames), with the model of a digest.

        Returns:
            The scores of each member, shape (windows, members, instruments).

        Raises:
            Exception: Whatever scoring the batch has raised.
        """
        item = _Item(digest, windows, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._score_waiting())
        return await item.scores

    async def _score_waiting(self) -> None:
        while batch := self._next():
            scoring = asyncio.create_task(self._scored(batch))
            await asyncio.wait({scoring})
            error = scoring.exception()
            for number, item in enumerate(batch):
                if item.scores.done():  # Its client has gone.
                    continue
                if error is None:
                    item.scores.set_result(scoring.result()[number])
                else:
                    item.scores.set_exception(error)

    async def _scored(self, batch: list[_Item]) -> list[npt.NDArray[np.float32]]:
        windows = np.concatenate([item.windows for item in batch])
        found = await self._score_batch(batch[0].digest, windows)
        return np.split(found, np.cumsum([len(item.windows) for item in batch])[:-1])

    def _next(self) -> list[_Item]:
        """Take the first item that is still awaited, and as many of its model as fit beside it."""
        awaited = [item for item in self._waiting if not item.scores.done()]
        batch: list[_Item] = []
        size = 0
        for item in awaited:
            fits = size + len(item.windows) <= self._most or not batch
            if item.digest == awaited[0].digest and fits:
                batch.append(item)
                size += len(item.windows)
        self._waiting = [item for item in awaited if item not in batch]
        return batch

"""Windows of concurrent requests share batches."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from irmas_dist.serving.batches import Batches

MOST = 8


class Scored:
    """A stand-in for the process that scores, which waits until it may; scores are the windows."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []
        self.may_begin = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def __call__(self, digest: str, windows: np.ndarray) -> np.ndarray:
        async with asyncio.timeout(10):
            await self.may_begin.acquire()
        self.batches.append((digest, len(windows)))
        if self.error is not None:
            raise self.error
        return windows

    def begin(self, times: int) -> None:
        for _ in range(times):
            self.may_begin.release()

    @property
    def sizes(self) -> list[int]:
        return [size for _, size in self.batches]


def asked(what: Callable[[Batches, Any], Any]) -> Scored:
    async def run() -> Scored:
        scored = Scored()
        await what(Batches(MOST, scored), scored)
        return scored

    return asyncio.run(run())


async def sent(
    batches: Batches, counts: list[int], digest: str = "a"
) -> list[asyncio.Task[np.ndarray]]:
    """Send requests one after the other, of so many windows."""
    tasks = []
    for number, count in enumerate(counts):
        windows = np.full((count, 1), number)
        tasks.append(asyncio.create_task(batches.score(digest, windows)))
        await asyncio.sleep(0.01)
    return tasks


def test_what_comes_while_a_batch_is_computed_is_the_next_batch() -> None:
    async def ask(batches: Batches, scored: Scored) -> None:
        tasks = await sent(batches, [1, 2, 3, 4])
        scored.begin(10)
        for number, task in enumerate(tasks):
            np.testing.assert_array_equal(await task, np.full((number + 1, 1), number))

    assert asked(ask).sizes == [1, 5, 4]  # 2 and 3 fit together, and 4 not beside them


def test_a_request_larger_than_a_batch_is_one() -> None:
    async def ask(batches: Batches, scored: Scored) -> None:
        tasks = await sent(batches, [1, 3 * MOST, 2])
        scored.begin(10)
        assert [len(await task) for task in tasks] == [1, 3 * MOST, 2]

    assert asked(ask).sizes == [1, 3 * MOST, 2]


def test_models_are_not_mixed_and_none_waits_for_ever() -> None:
    async def ask(batches: Batches, scored: Scored) -> None:
        tasks = [
            *await sent(batches, [1, 2]), *await sent(batches, [3], "b"), *await sent(batches, [4])
        ]  # fmt: skip
        scored.begin(10)
        assert [len(await task) for task in tasks] == [1, 2, 3, 4]

    assert asked(ask).batches == [("a", 1), ("a", 6), ("b", 3)]


def test_clients_that_have_gone_are_not_scored() -> None:
    async def ask(batches: Batches, scored: Scored) -> None:
        tasks = await sent(batches, [1, 2, 3])
        tasks[0].cancel()  # in the batch that is computed
        tasks[1].cancel()
        await asyncio.sleep(0)
        scored.begin(10)
        assert len(await tasks[2]) == 3

    assert asked(ask).sizes == [1, 3]


def test_a_failed_batch_is_that_of_its_requests_alone() -> None:
    async def ask(batches: Batches, scored: Scored) -> None:
        scored.error = RuntimeError("of a test")
        (failing,) = await sent(batches, [1])
        scored.begin(1)
        with pytest.raises(RuntimeError, match="of a test"):
            await failing
        scored.error = None
        (task,) = await sent(batches, [2])
        scored.begin(1)
        assert len(await task) == 2

    assert asked(ask).sizes == [1, 2]

"""Windows of concurrent requests share batches."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from irmas_dist.serving.batches import Batches

MOST = 8


class Scoring:
    """A stand-in for a predictor, which waits until it may begin; its scores are the windows."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.may_begin = threading.Semaphore(0)
        self.error: Exception | None = None

    def score_batches(self, windows: np.ndarray) -> np.ndarray:
        assert self.may_begin.acquire(timeout=10)
        self.sizes.append(len(windows))
        if self.error is not None:
            raise self.error
        return windows


def asked(what: Callable[[Batches, Any], Any]) -> Any:
    async def run() -> Any:
        predictor = Scoring()
        return await what(Batches(MOST), predictor), predictor

    return asyncio.run(run())


async def sent(batches: Batches, predictor: Any, counts: list[int]) -> list[asyncio.Task[Any]]:
    """Send requests one after the other, of so many windows."""
    tasks = []
    for number, count in enumerate(counts):
        windows = np.full((count, 1), number)
        tasks.append(asyncio.create_task(batches.score(predictor, windows)))
        await asyncio.sleep(0.01)
    return tasks


def test_what_comes_while_a_batch_is_computed_is_the_next_batch() -> None:
    async def ask(batches: Batches, predictor: Scoring) -> None:
        tasks = await sent(batches, predictor, [1, 2, 3, 4])
        predictor.may_begin.release(10)
        for number, task in enumerate(tasks):
            np.testing.assert_array_equal(await task, np.full((number + 1, 1), number))

    assert asked(ask)[1].sizes == [1, 5, 4]  # 2 and 3 fit together, and 4 not beside them


def test_a_request_larger_than_a_batch_is_one() -> None:
    async def ask(batches: Batches, predictor: Scoring) -> None:
        tasks = await sent(batches, predictor, [1, 3 * MOST, 2])
        predictor.may_begin.release(10)
        assert [len(await task) for task in tasks] == [1, 3 * MOST, 2]

    assert asked(ask)[1].sizes == [1, 3 * MOST, 2]


def test_models_are_not_mixed_and_none_waits_for_ever() -> None:
    async def ask(batches: Batches, predictor: Scoring) -> Scoring:
        other = Scoring()
        first = await sent(batches, predictor, [1, 2])
        second = await sent(batches, other, [3])
        third = await sent(batches, predictor, [4])
        predictor.may_begin.release(10)
        other.may_begin.release(10)
        assert [len(await task) for task in (*first, *second, *third)] == [1, 2, 3, 4]
        return other

    other, predictor = asked(ask)
    assert (predictor.sizes, other.sizes) == ([1, 6], [3])


def test_clients_that_have_gone_are_not_scored() -> None:
    async def ask(batches: Batches, predictor: Scoring) -> None:
        tasks = await sent(batches, predictor, [1, 2, 3])
        tasks[0].cancel()  # in the batch that is computed
        tasks[1].cancel()
        await asyncio.sleep(0)
        predictor.may_begin.release(10)
        assert len(await tasks[2]) == 3

    assert asked(ask)[1].sizes == [1, 3]


def test_a_failed_batch_is_that_of_its_requests_alone() -> None:
    async def ask(batches: Batches, predictor: Scoring) -> None:
        predictor.error = RuntimeError("of a test")
        (failing,) = await sent(batches, predictor, [1])
        predictor.may_begin.release()
        with pytest.raises(RuntimeError, match="of a test"):
            await failing
        predictor.error = None
        (task,) = await sent(batches, predictor, [2])
        predictor.may_begin.release()
        assert len(await task) == 2

    assert asked(ask)[1].sizes == [1, 2]

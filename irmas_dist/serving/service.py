"""From uploads to timelines: read in subprocesses, scored by a function.

Windows are sent to be scored while later ones are still being read.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irmas_dist.config.serving import Limits
from irmas_dist.errors import AudioError, UnknownFormatError
from irmas_dist.inference.audio_inputs import Prediction
from irmas_dist.inference.timeline import timeline_of
from irmas_dist.serving.models import ServedModel
from irmas_dist.serving.readers import ReaderError, Readers
from irmas_dist.serving.received import ReceivedAudio, RefusedRequestError

Score = Callable[[ServedModel, npt.NDArray[Any]], Awaitable[npt.NDArray[np.float32]]]
"""Scores windows, shape (windows, bands, frames), with a model: shape (windows, members,
instruments). Raises `RefusedRequestError` when it cannot now."""

AHEAD = 1
"""Chunks of windows of one upload that wait while another is scored: each clip waits for both."""


@dataclass(frozen=True, eq=False)
class ScoredWindows:
    """Scores of consecutive windows of an upload.

    Attributes:
        starts: In seconds, shape (windows,).
        ends: In seconds.
        scores: Shape (windows, instruments).
    """

    starts: npt.NDArray[np.float64]
    ends: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]


class PredictionService:
    """Predicts uploads within limits.

    Args:
        score: See `Score`.
        limits: What a request may ask for.
        readers: How many uploads are read at a time.
    """

    def __init__(self, score: Score, limits: Limits, readers: int) -> None:
        self.limits = limits
        self._score = score
        self._readers = Readers(readers)
        self._models: dict[str, ServedModel] = {}
        self._active = 0

    def use(self, models: Mapping[str, ServedModel]) -> None:
        """Answer with these models from now on; what has begun goes on with its own."""
        self._models = dict(models)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep readers while the block runs."""
        self._readers.start()
        try:
            yield
        finally:
            await self._readers.close()

    def ready(self) -> bool:
        """Return whether there are models, and processes that read uploads."""
        return self._readers.ready() and bool(self._models)

    @property
    def models(self) -> list[ServedModel]:
        """The models, the one that answers by default first."""
        return list(self._models.values())

    def model(self, name: str | None) -> ServedModel:
        """Return a model, the first if none is named.

        Raises:
            RefusedRequestError: There is none of this name.
        """
        if name is None and self._models:
            return self.models[0]
        if name not in self._models:
            known = ", ".join(self._models)
            raise RefusedRequestError(
                422, f"no model is named {name}; those that there are: {known}"
            )
        return self._models[name]

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request while the block runs.

        Raises:
            RefusedRequestError: There are as many as are allowed.
        """
        if self._active >= self.limits.max_requests:
            raise RefusedRequestError(
                429, f"{self._active} requests are being worked on, as many as are allowed: "
                "try again", retry_after_s=1,
            )  # fmt: skip
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    async def stream(
        self, upload: ReceivedAudio, model: ServedModel
    ) -> AsyncGenerator[ScoredWindows | Prediction]:
        """Score an upload: yield its windows as they are scored, and then its prediction.

        Raises:
            RefusedRequestError: It cannot be used, or not in time.
        """
        description, combination = model.description, model.combination
        features = description.features
        notes: list[str] = []
        offsets: list[int] = []
        scored: list[npt.NDArray[np.float32]] = []
        seconds = 60 * self.limits.max_minutes
        pending: deque[tuple[list[int], asyncio.Task[Any]]] = deque()

        async def first_pending() -> ScoredWindows:
            firsts, task = pending[0]
            members = await task
            pending.popleft()
            offsets.extend(firsts)
            scored.append(members)
            starts = np.array(firsts) / features.frames_per_second
            length = description.windows.frames / features.frames_per_second
            averaged = combination.averaged(np.moveaxis(members, 1, 0))
            return ScoredWindows(starts, starts + length, averaged)

        try:
            async with aclosing(
                self._readers.windows(upload.content, model.reading, seconds, notes)
            ) as chunks:
                async for firsts, windows in chunks:
                    task = asyncio.ensure_future(self._score(model, windows))
                    pending.append((firsts, task))
                    while len(pending) > AHEAD or (pending and pending[0][1].done()):
                        yield await first_pending()
            while pending:
                yield await first_pending()
        except AudioError as error:
            reason = "unknown_format" if isinstance(error, UnknownFormatError) else None
            raise RefusedRequestError(422, f"{upload.name}: {error}", reason=reason) from error
        except ReaderError as error:
            logging.getLogger("ray.serve").error(str(error))
            raise RefusedRequestError(
                503, "the upload cannot be read now: try again", retry_after_s=1
            ) from error
        finally:
            for _, task in pending:
                task.cancel()
            # Those that have failed as well are not reported as forgotten.
            await asyncio.gather(*(task for _, task in pending), return_exceptions=True)
        timeline = timeline_of(description, combination, offsets, np.concatenate(scored), notes)
        yield Prediction(
            upload.name,
            timeline.scores,
            description.decide(timeline.scores),
            note=timeline.note,
            timeline=timeline,
            adapted_to=description.adapted_to,
        )

    async def predict(self, upload: ReceivedAudio, model: ServedModel) -> Prediction:
        """Return the prediction of an upload, with its timeline.

        Raises:
            RefusedRequestError: As from `stream`.
        """
        async with aclosing(self.stream(upload, model)) as results:
            async for result in results:
                if isinstance(result, Prediction):
                    return result
        raise AssertionError("a prediction is the last result")

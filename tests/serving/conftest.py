"""A web application in this process: real readers, a real model, and no Ray."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from irmas_dist.config.serving import Limits
from irmas_dist.inference.predictor import Predictor
from irmas_dist.serving.application import create_app
from irmas_dist.serving.models import ServedModel
from irmas_dist.serving.service import PredictionService
from tests.inference.conftest import excerpts, make_model, model, predictor  # noqa: F401

Ask = Callable[[httpx.AsyncClient], Awaitable[Any]]
Serve = Callable[..., Any]


@asynccontextmanager
async def client(
    model: Path,  # noqa: F811
    limits: Limits,
    token_digest: str | None = None,
    score: Any = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with one model, which ends with the block."""

    loaded = Predictor.load(model)

    async def with_predictor(_: ServedModel, windows: np.ndarray) -> np.ndarray:
        return await asyncio.to_thread(loaded.score_batches, windows)

    service = PredictionService(score or with_predictor, limits, readers=1)
    service.use({"model": ServedModel.read("model", model)[0]})
    app = create_app(service, token_digest)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as found,
    ):
        yield found


@pytest.fixture
def asking(model: Path) -> Serve:  # noqa: F811
    """Run what asks an application, which is given limits and a token."""

    def ask(
        what: Ask, limits: dict[str, Any] | None = None, token: str | None = None, score: Any = None
    ) -> Any:
        async def asked() -> Any:
            async with client(model, Limits(**limits or {}), token, score) as found:
                return await what(found)

        return asyncio.run(asked())

    return ask

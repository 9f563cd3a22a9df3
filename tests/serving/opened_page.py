"""The page of a server in this process, in a tab of a real Chromium."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from irmas_dist.config.serving import Limits
from irmas_dist.inference.predictor import Predictor
from irmas_dist.serving.application import create_app
from irmas_dist.serving.models import ServedModel
from irmas_dist.serving.service import PredictionService
from tests.devtools import Tab, tab
from tests.ray_cluster import free_port

STATUS = "document.getElementById('status').textContent"
NOTE = "document.getElementById('note').textContent"
SAVED = """import("/page.js").then(() => new Promise(resolve => {
  const make = URL.createObjectURL;
  URL.createObjectURL = blob => (blob.text().then(resolve), make(blob));
  document.getElementById("%s").click();
}))"""
"""The content of what a button saves."""


@contextlib.asynccontextmanager
async def page(*models: Path, token_digest: str | None = None, **limits: Any) -> AsyncIterator[str]:
    """Serve models, the first named model and the others by their numbers; yield the URL."""
    loaded = {str(each): Predictor.load(each) for each in models}

    async def score(model: ServedModel, windows: np.ndarray) -> np.ndarray:
        return await asyncio.to_thread(loaded[model.directory].score_batches, windows)

    service = PredictionService(score, Limits(**limits), readers=1)
    names = ["model", *map(str, range(1, len(models)))]
    service.use(
        {name: ServedModel.read(name, each)[0] for name, each in zip(names, models, strict=True)}
    )
    app, port = create_app(service, token_digest), free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="on"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    await serving


def browsing(
    what: Callable[[Tab], Awaitable[None]], *models: Path, token: str | None = None, **limits: Any
) -> None:
    """Open the page and do something there, once it has begun."""

    async def scenario() -> None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            async with (
                page(*models, token_digest=token, **limits) as url,
                tab(Path(profile), url) as browser,
            ):
                await browser.until(
                    "document.getElementById('about')?.textContent"
                    f" || document.getElementById('status') && {STATUS}"
                )
                await what(browser)

    asyncio.run(scenario())

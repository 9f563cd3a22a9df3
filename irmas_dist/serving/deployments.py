"""Ray Serve deployments: `ListenerDeployment` answers HTTP requests, `ScorerDeployment` scores.

`application` builds them, also for the file of a RayService:
``import_path: irmas_dist.serving.deployments:application``.
"""

import asyncio
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from irmas_dist.config.serving import TOKEN, Limits, ServingSettings, require_token
from irmas_dist.errors import IrmasError
from irmas_dist.inference.predictor import BATCH_WINDOWS, Predictor
from irmas_dist.serving.application import create_app
from irmas_dist.serving.listener import Listener
from irmas_dist.serving.models import ServedModel, model_digest
from irmas_dist.serving.received import RefusedRequestError

READERS = 2
"""Processes that read uploads in each listening replica: while one decodes, one may be replaced."""

QUIET = {"enable_access_log": False}
"""Lines for each request would come to the command, whose log is never rotated; proxies write some
to theirs, which is."""

VERSIONS_KEPT = 2
"""Versions of each model in memory: that of requests which had begun before the last change."""


class ListenerDeployment:
    """Handles HTTP requests; holds no model in memory."""

    def __init__(
        self, scorer: DeploymentHandle, limits: Mapping[str, Any], token_digest: str | None
    ) -> None:
        self._scorer, self._token_digest = scorer, token_digest
        self._listener = Listener(self._score, Limits(**limits), READERS)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._listener, self._token_digest)

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Answer with these models from now on, as `ServedModel.as_config` describes them."""
        models = [ServedModel.of_config(each) for each in config["models"]]
        self._listener.use({model.name: model for model in models})

    async def _score(
        self, model: ServedModel, windows: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        try:
            scores: npt.NDArray[np.float32] = await self._scorer.score.remote(
                model.digest, model.directory, windows
            )
        except (RayError, RayServeException) as error:
            raise RefusedRequestError(
                503, "a replica failed during the request: try again", retry_after_s=1
            ) from error
        return scores


class ScorerDeployment:
    """Scores windows, those of concurrent requests in one batch."""

    def __init__(self) -> None:
        self._predictors: dict[str, Predictor] = {}
        self._loading = asyncio.Lock()

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Load what is new of these models, and forget the versions before the last ones."""
        models = {each["digest"]: each["directory"] for each in config["models"]}
        for digest, directory in models.items():
            await self._load(digest, directory)
        older = [digest for digest in self._predictors if digest not in models]
        for digest in older[: -(VERSIONS_KEPT - 1) * len(models)]:
            del self._predictors[digest]

    async def _load(self, digest: str, directory: str) -> None:
        async with self._loading:
            if digest not in self._predictors:
                self._predictors[digest] = await asyncio.to_thread(_load, digest, directory)

    async def score(
        self, digest: str, directory: str, windows: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        """Score windows, shape (windows, bands, frames), with one version of a model.

        Returns:
            The scores of each member, shape (windows, members, instruments).
        """
        # A listener replica may know a version first. Waiting for `reconfigure` would deadlock:
        # Serve calls it only when no request is in progress.
        await self._load(digest, directory)
        scores: npt.NDArray[np.float32] = await self._score_together((digest, windows))
        return scores

    @serve.batch(
        max_batch_size=max(BATCH_WINDOWS.values()),
        # Requests gather while a batch is computed; to wait for more would only take time.
        batch_wait_timeout_s=0,
        batch_size_fn=lambda items: sum(len(windows) for _, windows in items),
    )
    async def _score_together(
        self, items: list[tuple[str, npt.NDArray[Any]]]
    ) -> list[npt.NDArray[np.float32]]:
        scores: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(items)
        for digest in {digest for digest, _ in items}:
            numbers = [number for number, item in enumerate(items) if item[0] == digest]
            windows = np.concatenate([items[number][1] for number in numbers])
            found = await asyncio.to_thread(self._predictors[digest].score_batches, windows)
            bounds = np.cumsum([len(items[number][1]) for number in numbers])[:-1]
            for number, part in zip(numbers, np.split(found, bounds), strict=True):
                scores[number] = part
        return scores


def _load(digest: str, directory: str) -> Predictor:
    if model_digest(directory) != digest:
        raise IrmasError(f"{directory} has changed since it was deployed: deploy it again")
    return Predictor.load(directory)


def application(args: Mapping[str, Any] | ServingSettings) -> serve.Application:
    """Build the application of Ray Serve.

    Args:
        args: The settings, or a mapping of them from a RayService's file, whose application is
            reachable from outside: it needs a token in the environment.

    Raises:
        IrmasError: A model cannot be used, or there is no token.
    """
    token = os.environ.get(TOKEN)
    if isinstance(args, ServingSettings):
        settings = args
    else:
        require_token("0.0.0.0", token)
        settings = ServingSettings.model_validate(dict(args))
    models = [ServedModel.read(name, where) for name, where in settings.models.items()]
    # Serve's status, command line and dashboard fail with a list.
    config = {"models": [model.as_config() for model in models]}
    limits = settings.limits
    scorer = serve.deployment(
        ScorerDeployment,
        name="scorer",
        user_config=config,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus or 0},
        max_ongoing_requests=256,
        health_check_period_s=2,
        logging_config=QUIET,
        **settings.scaling(),
    )
    # Above the limit a listener answers by itself, at once.
    listener = serve.deployment(
        serve.ingress()(ListenerDeployment),
        name="listener",
        user_config=config,
        ray_actor_options={"num_cpus": settings.listening_cpus},
        max_ongoing_requests=2 * limits.max_requests + 64,
        graceful_shutdown_timeout_s=limits.timeout_s + 5,
        health_check_period_s=2,
        logging_config=QUIET,
        **settings.scaling(),
    )
    digest = hashlib.sha256(token.encode()).hexdigest() if token else None
    return listener.bind(scorer.bind(), limits.model_dump(), digest)

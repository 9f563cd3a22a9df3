"""The Ray Serve deployment, and the application that it makes.

`application` builds it for the file of a RayService:
``import_path: irmas_dist.serving.deployments:application``.
"""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI
from ray import serve

from irmas_dist import __version__
from irmas_dist.config.serving import TOKEN, Limits, ServingSettings, require_token
from irmas_dist.serving.application import create_app
from irmas_dist.serving.batches import Batches
from irmas_dist.serving.models import ServedModel, read_models
from irmas_dist.serving.received import RefusedRequestError
from irmas_dist.serving.scoring import Scoring
from irmas_dist.serving.service import PredictionService

READERS = 2
"""Processes that read uploads beside each replica: while one decodes, one may be replaced."""

BATCH_WINDOWS = {"cpu": 12, "cuda": 512}
"""Windows that several requests may have in a batch, by device. On a CPU so few, some four clips,
that others are read while they are scored: with larger batches all wait for the same."""

START_S = 60.0
"""Time in which the process that scores starts, and loads a model."""

QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Lines for each request would come to the command, whose log is never rotated; Ray Serve's proxies
write some to theirs, which is. Without the level they would be made, and not be written."""


class PredictionDeployment:
    """Answers HTTP requests, and scores the windows of concurrent ones together.

    Args:
        limits: `Limits` as a mapping.
        token_digest: See `create_app`.
        device: Where to score.
        threads: With how many threads, on a CPU.
    """

    def __init__(
        self, limits: Mapping[str, Any], token_digest: str | None, device: str, threads: int
    ) -> None:
        self._token_digest = token_digest
        within = Limits(**limits)
        self._service = PredictionService(self._score, within, READERS)
        # A request that came while another was scored may still be answered in time.
        self._scoring = Scoring(device, threads, START_S + 2 * within.timeout_s, _end)
        self._batches = Batches(BATCH_WINDOWS[device], self._scoring.score)
        self._changing = asyncio.Lock()
        self._versions: WeakSet[ServedModel] = WeakSet()  # those that requests hold, too
        self._forgetting: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._service, self._token_digest)

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Load what is new of these models, and answer with them from now on.

        Requests that have begun go on with what they began with.

        Args:
            config: ``models``, each as `ServedModel.as_config` describes it.

        Raises:
            IrmasError: A directory has changed since it was deployed.
        """
        async with self._changing:
            before = self._service.models
            loaded = {model.digest: model for model in before}
            for each in config["models"]:
                if each["digest"] not in loaded:
                    model, weights = await asyncio.to_thread(ServedModel.read, **each)
                    await self._scoring.load(model, weights)
                    loaded[model.digest] = model
            models = {
                each["name"]: replace(
                    loaded[each["digest"]], name=each["name"], directory=each["directory"]
                )
                for each in config["models"]
            }
            self._service.use(models)
            self._versions.update(models.values())
            if before:
                self._forgetting = asyncio.create_task(self._forget())

    async def _forget(self) -> None:
        """Free the memory of earlier models, once requests that began with them have ended."""
        await asyncio.sleep(self._service.limits.timeout_s + 1)
        async with self._changing:  # Else a model that is being loaded would be forgotten.
            await self._scoring.keep(self._versions)

    async def _score(
        self, model: ServedModel, windows: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        try:
            return await self._batches.score(model.digest, windows)
        except Exception as error:
            logging.getLogger("ray.serve").exception("windows of %s", model.name)
            raise RefusedRequestError(
                503, "scoring has failed: try again", retry_after_s=1
            ) from error


def _end(status: int) -> None:
    """End a replica that cannot score any more: Ray Serve replaces it, and clients get 503."""
    logging.getLogger("ray.serve").error("the process that scores has ended: %s", status)
    os._exit(1)


def application(args: Mapping[str, Any]) -> serve.Application:
    """Build the application of a RayService's file, which is reachable from outside.

    Args:
        args: `ServingSettings` as a mapping; there are no GPUs where it names none.

    Raises:
        IrmasError: A model cannot be used, or there is no token in the environment.
    """
    require_token("0.0.0.0", os.environ.get(TOKEN))
    settings = ServingSettings.model_validate(dict(args))
    return application_of(settings, read_models(settings.models))


def application_of(settings: ServingSettings, models: Sequence[ServedModel]) -> serve.Application:
    """Build the application that answers with some models; clients need the token, if any."""
    token = os.environ.get(TOKEN)
    limits = settings.limits
    arguments = (
        limits.model_dump(mode="json"),
        hashlib.sha256(token.encode()).hexdigest() if token else None,
        "cuda" if settings.gpus else "cpu",
        max(int(settings.cpus), 1),
    )
    # Above the limit a replica answers by itself, at once.
    deployment = serve.deployment(
        serve.ingress()(PredictionDeployment),
        name="predictor",
        # Serve's status, command line and dashboard fail with a list.
        user_config={"models": [model.as_config() for model in models]},
        ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": settings.gpus or 0},
        max_ongoing_requests=2 * limits.max_requests + 64,
        graceful_shutdown_timeout_s=limits.timeout_s + 5,
        health_check_period_s=2,
        logging_config=QUIET,
        **settings.scaling(),
    )
    # Without a version of its own each deployment would be a new one, for which Serve ends the
    # replicas; with it other models alone reach them by `reconfigure`.
    text = json.dumps([__version__, *arguments])
    version = hashlib.sha256(text.encode()).hexdigest()[:16]
    return deployment.options(_internal=True, version=version).bind(*arguments)

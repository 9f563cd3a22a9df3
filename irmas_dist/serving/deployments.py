"""The Ray Serve deployment, and the application that is made of it.

`application` builds them, also for the file of a RayService:
``import_path: irmas_dist.serving.deployments:application``.
"""

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from fastapi import FastAPI
from ray import serve

from irmas_dist.config.serving import TOKEN, Limits, ServingSettings, require_token
from irmas_dist.errors import IrmasError
from irmas_dist.inference.predictor import BATCH_WINDOWS, Predictor
from irmas_dist.serving.application import create_app
from irmas_dist.serving.listener import Listener
from irmas_dist.serving.models import ServedModel, model_digest, read_models
from irmas_dist.serving.received import RefusedRequestError

READERS = 2
"""Processes that read uploads beside each replica: while one decodes, one may be replaced."""

QUIET = {"enable_access_log": False}
"""Lines for each request would come to the command, whose log is never rotated; proxies write some
to theirs, which is."""


class ListenerDeployment:
    """Answers HTTP requests and scores their windows, those of concurrent requests in one batch.

    Args:
        limits: `Limits` as a mapping.
        token_digest: See `create_app`.
        threads: With how many threads each batch is scored on a CPU.
    """

    def __init__(self, limits: Mapping[str, Any], token_digest: str | None, threads: int) -> None:
        torch.set_num_threads(threads)
        self._token_digest = token_digest
        self._listener = Listener(self._score, Limits(**limits), READERS)
        # A version is forgotten with the last request that began with it.
        self._predictors: WeakKeyDictionary[ServedModel, Predictor] = WeakKeyDictionary()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._listener, self._token_digest)

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Load what is new of these models, and answer with them from now on.

        Args:
            config: ``models``, each as `ServedModel.as_config` describes it.

        Raises:
            IrmasError: A directory has changed since it was deployed.
        """
        known = {(model.name, model.digest): model for model in self._listener.models}
        models = {}
        for each in config["models"]:
            name, digest = each["name"], each["digest"]
            model = known.get((name, digest)) or ServedModel.of_config(each)
            if model not in self._predictors:
                self._predictors[model] = await asyncio.to_thread(_load, model)
            models[name] = model
        self._listener.use(models)

    @serve.batch(
        max_batch_size=max(BATCH_WINDOWS.values()),
        # Requests gather while a batch is computed; to wait for more would only take time.
        batch_wait_timeout_s=0,
        batch_size_fn=lambda items: sum(len(windows) for _, windows in items),
    )
    async def _score_together(
        self, items: list[tuple[ServedModel, npt.NDArray[Any]]]
    ) -> list[npt.NDArray[np.float32]]:
        scores: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(items)
        for model in {model for model, _ in items}:
            numbers = [number for number, item in enumerate(items) if item[0] is model]
            windows = np.concatenate([items[number][1] for number in numbers])
            found = await asyncio.to_thread(self._predictors[model].score_batches, windows)
            bounds = np.cumsum([len(items[number][1]) for number in numbers])[:-1]
            for number, part in zip(numbers, np.split(found, bounds), strict=True):
                scores[number] = part
        return scores

    async def _score(
        self, model: ServedModel, windows: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        try:
            scores: npt.NDArray[np.float32] = await self._score_together((model, windows))
        except torch.OutOfMemoryError as error:
            raise RefusedRequestError(
                503, "no memory is left on the device: try again", retry_after_s=1
            ) from error
        return scores


def _load(model: ServedModel) -> Predictor:
    if model_digest(model.directory) != model.digest:
        raise IrmasError(f"{model.directory} has changed since it was deployed: deploy it again")
    return Predictor.load(model.directory)


def application(args: Mapping[str, Any]) -> serve.Application:
    """Build the application of a RayService's file, which is reachable from outside.

    Args:
        args: `ServingSettings` as a mapping.

    Raises:
        IrmasError: A model cannot be used, or there is no token in the environment.
    """
    require_token("0.0.0.0", os.environ.get(TOKEN))
    settings = ServingSettings.model_validate(dict(args))
    return application_of(settings, read_models(settings.models))


def application_of(settings: ServingSettings, models: Sequence[ServedModel]) -> serve.Application:
    """Build the application that answers with some models; clients need the token, if any."""
    token = os.environ.get(TOKEN)
    # Serve's status, command line and dashboard fail with a list.
    config = {"models": [model.as_config() for model in models]}
    limits = settings.limits
    # Above the limit a listener answers by itself, at once.
    listener = serve.deployment(
        serve.ingress()(ListenerDeployment),
        name="listener",
        user_config=config,
        ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": settings.gpus or 0},
        max_ongoing_requests=2 * limits.max_requests + 64,
        graceful_shutdown_timeout_s=limits.timeout_s + 5,
        health_check_period_s=2,
        logging_config=QUIET,
        **settings.scaling(),
    )
    digest = hashlib.sha256(token.encode()).hexdigest() if token else None
    return listener.bind(limits.model_dump(), digest, max(int(settings.cpus), 1))

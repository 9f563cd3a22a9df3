"""The application on Ray Serve: the command's own way, with a real client."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvloop

from irmas_dist.config.serving import Limits, ServingSettings
from irmas_dist.errors import IrmasError
from irmas_dist.inference.predictor import Predictor
from irmas_dist.serving.deployments import PredictionDeployment, application
from irmas_dist.serving.models import ServedModel
from irmas_dist.serving.received import RefusedRequestError
from irmas_dist.serving.serve import _require_capacity, _shared_gpus, deployed
from tests.inference.conftest import MakeModel
from tests.ray_cluster import free_port

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def url(model: Path, port: int, ray_cluster: None) -> Iterator[str]:
    from ray import serve

    with deployed(settings(model), "127.0.0.1", port) as found:
        yield found
    serve.shutdown()


def settings(model: Path) -> ServingSettings:
    return ServingSettings(models={"a": str(model)}, cpus=0.5, gpus=0)


def test_concurrent_requests_have_the_scores_of_predict(
    url: str, excerpts: list[Path], predictor: Predictor
) -> None:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            files = [excerpt.read_bytes() for excerpt in excerpts[:4]]
            return await asyncio.gather(
                *(client.post("/v1/predict", content=each) for each in files * 2)
            )

    answers = asyncio.run(ask())
    for answer, excerpt in zip(answers, excerpts[:4] * 2, strict=True):
        (found,) = answer.json()["predictions"]
        assert found["scores"] == pytest.approx(predictor.file(excerpt), abs=1e-5)


def replicas() -> set[str]:
    from ray.serve.context import _get_global_client

    details = _get_global_client().get_serve_details()
    (deployment,) = details["applications"]["irmas"]["deployments"].values()
    return {replica["replica_id"] for replica in deployment["replicas"]}


def test_serve_can_describe_the_application(url: str) -> None:
    from ray.serve.context import _get_global_client

    details = _get_global_client().get_serve_details()  # of `serve status` and `serve shutdown`
    assert details["applications"]["irmas"]["status"] == "RUNNING"


@pytest.mark.drill
def test_another_version_takes_over_without_a_refused_request(
    url: str, port: int, excerpts: list[Path], make_model: MakeModel
) -> None:
    content = excerpts[0].read_bytes()
    other = make_model(width=12)

    async def ask() -> tuple[list[int], dict[str, float]]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            update = asyncio.create_task(asyncio.to_thread(deploy))
            statuses, scores = [], {}
            while not update.done() or len(statuses) < 5:
                answer = await client.post("/v1/predict", content=content)
                statuses.append(answer.status_code)
                scores = answer.json().get("predictions", [{}])[0].get("scores", {})
            await update
            return statuses, scores

    def deploy() -> None:
        with deployed(settings(other), "127.0.0.1", port):
            time.sleep(1)

    before = replicas()
    statuses, scores = asyncio.run(ask())
    assert set(statuses) == {200}
    assert replicas() == before  # which have loaded the model while they answered
    assert scores == pytest.approx(Predictor.load(other).file(excerpts[0]), abs=1e-5)


def test_a_replica_needs_no_torch_of_its_own() -> None:
    script = "import sys, irmas_dist.serving.deployments; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_file_for_a_cluster_wants_a_token(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IRMAS_SERVE_TOKEN", raising=False)
    with pytest.raises(IrmasError, match="IRMAS_SERVE_TOKEN"):
        application({"models": {"a": str(model)}})


def test_clients_are_told_to_come_back_where_scoring_has_ended(model: Path) -> None:
    served, _ = ServedModel.read("a", model)

    async def ask() -> None:
        deployment = PredictionDeployment(Limits().model_dump(), None, "cpu", threads=1)
        await deployment.reconfigure({"models": [served.as_config()]})
        windows = silent_windows(served)
        assert (await deployment._score(served, windows)).shape[0] == 1
        with pytest.raises(RefusedRequestError):
            await deployment._score(served, windows[0])  # and the process goes on
        assert (await deployment._score(served, windows)).shape[0] == 1
        await deployment._scoring.close()
        for _ in range(2):
            with pytest.raises(RefusedRequestError) as refused:
                await deployment._score(served, windows)
            assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as in a replica
        runner.run(ask())


def test_earlier_models_are_forgotten_once_their_requests_have_ended(
    model: Path, make_model: MakeModel
) -> None:
    first, _ = ServedModel.read("a", model)
    second, _ = ServedModel.read("a", make_model(width=12))

    async def ask() -> None:
        limits = Limits(timeout_s=1).model_dump()
        deployment = PredictionDeployment(limits, None, "cpu", threads=1)
        await deployment.reconfigure({"models": [first.as_config()]})
        request = deployment._service.model("a")
        for _ in range(2):  # Ray Serve repeats it where the number of replicas changes
            await deployment.reconfigure({"models": [second.as_config()]})
        assert deployment._forgetting is not None
        await deployment._forgetting
        await deployment._score(request, silent_windows(request))
        del request
        async with deployment._changing:
            forgetting = asyncio.create_task(deployment._forget())
            assert not (await asyncio.wait({forgetting}, timeout=2.5))[0]
        await forgetting
        with pytest.raises(RefusedRequestError):
            await deployment._score(first, silent_windows(first))
        await deployment._score(second, silent_windows(second))
        await deployment._scoring.close()

    asyncio.run(ask())


def silent_windows(model: ServedModel) -> np.ndarray:
    shape = (1, model.description.features.bands, model.description.windows.frames)
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("replicas", "cpus", "gpus", "fits"),
    [
        (2, 1.0, 0.0, True), (3, 1.0, 0.0, False), (1, 3.0, 0.0, False), (1, 1.0, 1.0, True),
        (2, 0.5, 0.6, True), (3, 0.5, 0.6, False),  # a fraction is of a single GPU
    ],
)  # fmt: skip
def test_a_replica_must_fit_on_one_node(
    replicas: int, cpus: float, gpus: float, fits: bool
) -> None:
    nodes = [{"CPU": 3.0, "GPU": 2.0}, {"CPU": 2.0}]
    settings = ServingSettings(models={"a": "a"}, replicas=replicas, cpus=cpus, gpus=gpus)
    with contextlib.nullcontext() if fits else pytest.raises(IrmasError, match="do not fit"):
        _require_capacity(settings, nodes)


@pytest.mark.parametrize(
    ("replicas", "most", "gpus", "share"),
    [(1, None, 0, 0), (1, None, 4, 1), (2, None, 1, 0.5), (2, 6, 2, 0.3333), (5, None, 4, 0.5)],
)
def test_replicas_share_the_gpus_that_there_are(
    replicas: int, most: int | None, gpus: float, share: float
) -> None:
    settings = ServingSettings(models={"a": "a"}, replicas=replicas, max_replicas=most)
    assert _shared_gpus(settings, gpus) == pytest.approx(share)

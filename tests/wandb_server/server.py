"""The server: HTTP in a thread of its own, and the list of requests."""

import asyncio
import gzip
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any

from aiohttp import web

from tests.wandb_server.faults import Fault
from tests.wandb_server.operations import Operations
from tests.wandb_server.records import StoredArtifact, StoredRun

BODY = web.RequestKey("body", bytes)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Request:
    """A request that the server has received.

    Attributes:
        call: Name of the GraphQL operation, ``file_stream``, ``upload``, ``telemetry`` or the path.
        body: Bytes of its body.
        at: When it came, seconds since the epoch.
        text: Path, headers and body as text, to search for secrets.
    """

    call: str
    body: int
    at: float
    text: str


class WandbServer:
    """A W&B server on this machine.

    Args:
        url: Its address, for WANDB_BASE_URL: ``http://127.0.0.1:PORT``.

    Attributes:
        faults: What happens to requests.
        requests: All of them, in order.
        unknown: Calls that it could not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._loop: asyncio.AbstractEventLoop | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything, and behave."""
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.operations = Operations(self.url)

    @property
    def listening(self) -> bool:
        """Whether it can be reached."""
        return self._loop is not None

    @property
    def runs(self) -> dict[str, StoredRun]:
        """Runs by identity."""
        return self.operations.runs

    @property
    def artifacts(self) -> list[StoredArtifact]:
        """Committed artifacts, in the order in which they were made."""
        return [one for one in self.operations.artifacts.values() if one.committed]

    @property
    def views(self) -> list[dict[str, Any]]:
        """Saved views: workspaces and reports."""
        return self.operations.views

    @property
    def unknown(self) -> list[str]:
        """Calls that it could not answer."""
        return self.operations.unknown

    def calls(self, *names: str) -> int:
        """Return how many requests came, of some calls or of all."""
        return sum(not names or request.call in names for request in self.requests)

    def start(self) -> None:
        """Listen, unless it does already."""
        if self._loop is not None:
            return
        loop = asyncio.new_event_loop()
        listening = loop.create_future()

        async def serve() -> None:
            runner = web.AppRunner(self._application(), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, *_place(self.url), reuse_address=True).start()
            self._stop = asyncio.Event()
            listening.set_result(None)
            await self._stop.wait()
            await runner.cleanup()

        self._thread = Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
        self._thread.start()
        while not listening.done():
            time.sleep(0.005)
        self._loop = loop

    def stop(self) -> None:
        """Die: connections break, and nothing listens any more."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._loop = None

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 30, middlewares=[self._record])
        application.router.add_post("/graphql", self._graphql)
        application.router.add_post("/files/{entity}/{project}/{run}/file_stream", self._stream)
        application.router.add_put("/upload/{key}/{name:.*}", self._upload)
        application.router.add_get("/upload/{key}/{name:.*}", self._download)
        application.router.add_post("/sdk/otel/v1/{kind}", self._telemetry)
        return application

    @web.middleware
    async def _record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        body = await request.read()
        size = len(body)
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        request[BODY] = body
        call = _call(request, body)
        text = f"{request.path_qs}\n{dict(request.headers)}\n{body.decode('utf-8', 'replace')}"
        self.requests.append(Request(call, size, time.time(), text))
        for fault in self.faults:
            if answer := await fault.strike(call, body):
                return answer
        return await handler(request)

    async def _graphql(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(request[BODY])
        return web.json_response(self.operations.answer(_operation(body), body))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(request[BODY])
        run = self.operations.run(request.match_info["project"], request.match_info["run"])
        run.stream(body.get("files") or {})
        if body.get("complete"):
            run.state = "failed" if body.get("exitcode") else "finished"
        return web.json_response({"exitcode": None, "limits": {}})

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        key, name = request.match_info["key"], request.match_info["name"]
        self.operations.keep(key, name, request[BODY])
        return web.Response()

    async def _download(self, request: web.Request) -> web.StreamResponse:
        key, name = request.match_info["key"], request.match_info["name"]
        return web.Response(body=self.operations.kept(key, name))

    async def _telemetry(self, request: web.Request) -> web.StreamResponse:
        return web.Response()


def _operation(body: dict[str, Any]) -> str:
    """Return the name of a GraphQL operation, which may stand in its text only."""
    named: str | None = body.get("operationName")
    return named or body["query"].strip().split("(")[0].split("{")[0].split()[-1]


def _call(request: web.Request, body: bytes) -> str:
    if request.path == "/graphql":
        return _operation(json.loads(body))
    for part, name in (("file_stream", "file_stream"), ("upload", "upload"), ("otel", "telemetry")):
        if part in request.path.split("/"):
            return name
    return request.path


def _place(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)

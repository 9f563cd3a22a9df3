"""The web application: routes, authorisation and responses. It needs no Ray."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from irmas_dist.inference.audio_inputs import Prediction
from irmas_dist.inference.results import as_object
from irmas_dist.inference.timeline import Timeline
from irmas_dist.serving.api_page import api_page
from irmas_dist.serving.api_schema import BODY, REFUSALS, answer
from irmas_dist.serving.local_hosts import LocalHosts
from irmas_dist.serving.models import ServedModel
from irmas_dist.serving.received import ReceivedAudio, RefusedRequestError, read_upload
from irmas_dist.serving.service import PredictionService, ScoredWindows

DIGITS = 6
"""Decimals of the scores of windows."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; media-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every answer: no page loads anything from elsewhere, or is framed; nothing is kept."""


def create_app(service: PredictionService, token_digest: str | None = None) -> FastAPI:
    """Return the application.

    Args:
        service: Predicts uploads; runs while the application does.
        token_digest: SHA-256 of the token that clients must send, in hexadecimal; None for none,
            of this machine alone.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="irmas",
        description="The instruments that play in a piece of music.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )

    async def authorised(request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1")
        sent = given[7:].strip() if given[:7].lower() == b"bearer " else b""
        if token_digest and not hmac.compare_digest(hashlib.sha256(sent).hexdigest(), token_digest):
            raise RefusedRequestError(401, "send the server's token: Authorization: Bearer …")

    if token_digest is None:
        app.add_middleware(LocalHosts)
    app.add_middleware(_WithHeaders)
    app.add_exception_handler(RefusedRequestError, _refused)
    app.add_exception_handler(HTTPException, _unknown)
    guard = [Depends(authorised)]
    if token_digest:  # It refuses nothing, and says in the API's description what is to be sent.
        guard.append(Depends(HTTPBearer(auto_error=False, scheme_name="token")))
    app.include_router(_predictions(service), dependencies=guard, responses=REFUSALS)
    app.include_router(_models(service), dependencies=guard, responses={401: REFUSALS[401]})
    app.include_router(_health(service))

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(api_page(app.openapi()))

    for path, content, kind in _page_files():
        methods = ["GET", "HEAD"]
        app.api_route(path, methods=methods, include_in_schema=False)(_sending(content, kind))
    return app


def _predictions(service: PredictionService) -> APIRouter:
    """Return the routes that take audio."""
    routes = APIRouter()

    async def predicted(request: Request) -> tuple[ServedModel, Prediction]:
        with service.admitted():
            async with _in_time(service):
                upload = await read_upload(request, service.limits)
                model = service.model(upload.model)
                return model, await service.predict(upload, model)

    @routes.post(
        "/v1/predict", summary="The instruments of an audio file", openapi_extra=BODY,
        responses=answer(timeline=False),
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        """Answer with the JSON of ``irmas predict --json``, and the model's name and version."""
        model, found = await predicted(request)
        return JSONResponse({"model": model.version, "predictions": [as_object(found)]})

    @routes.post(
        "/v1/timeline", summary="The scores of every window of an audio file",
        openapi_extra=BODY, responses=answer(timeline=True),
    )  # fmt: skip
    async def timeline(request: Request) -> Response:
        """Answer as predict does, with a ``timeline``: starts and ends in seconds, and scores.

        Those of a window are in the order of ``codes``.

        With ``Accept: text/event-stream`` windows are sent as they are scored: events ``start``,
        ``windows`` (any number), and ``end`` or ``error``, whose ``reason`` is ``unknown_format``
        where the server does not know the format.
        """
        if "text/event-stream" in request.headers.get("accept", ""):
            return await _stream(service, request)
        model, found = await predicted(request)
        assert found.timeline is not None
        windows = {"timeline": {"codes": found.timeline.codes} | _as_json(found.timeline)}
        return JSONResponse({"model": model.version, "predictions": [as_object(found) | windows]})

    return routes


def _models(service: PredictionService) -> APIRouter:
    """Return the route that describes the models."""
    routes = APIRouter()

    @routes.head("/v1/models", include_in_schema=False)
    @routes.get("/v1/models", summary="The models")
    async def models() -> Response:
        """Answer with each model's instruments, thresholds and validation figures, and limits."""
        limits = service.limits.model_dump(exclude={"allow_url_prefix"})
        return JSONResponse({"models": [each.facts() for each in service.models]} | limits)

    return routes


def _health(service: PredictionService) -> APIRouter:
    """Return the route that load balancers ask, without a token."""
    routes = APIRouter()

    @routes.head("/healthz", include_in_schema=False)
    @routes.get(
        "/healthz",
        summary="Whether requests can be answered",
        responses={503: {"description": "Models are being loaded, or no process reads uploads."}},
    )
    async def healthz() -> Response:
        """Answer 200 while they can."""
        ready = service.ready()
        return JSONResponse({"status": "ok" if ready else "starting"}, 200 if ready else 503)

    return routes


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedRequestError)
    extra = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return JSONResponse({"error": error.line}, error.status, {**error.headers, **extra})


async def _unknown(_: Request, error: Exception) -> Response:
    """Answer where there is no such path, or none for this method."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _stream(service: PredictionService, request: Request) -> Response:
    """Send windows as they are scored."""
    with ExitStack() as admission:
        admission.enter_context(service.admitted())
        until = _deadline(service)
        # Read before the answer begins, so that what is refused has its status.
        async with _in_time(service, until):
            upload = await read_upload(request, service.limits)
        events = _events(service, upload, service.model(upload.model), until)
        return _AdmittedStream(events, admission.pop_all())


class _AdmittedStream(StreamingResponse):
    """Server-sent events, which count as a request until they end."""

    def __init__(self, events: AsyncGenerator[str], admission: ExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._events, self._admission = events, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, and end what computes them also where the client has gone."""
        with self._admission:
            async with aclosing(self._events):
                await super().__call__(scope, receive, send)


class _WithHeaders:
    """Adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


@asynccontextmanager
async def _in_time(service: PredictionService, until: float | None = None) -> AsyncIterator[None]:
    """Refuse what takes longer than is allowed from now, or until a time of the event loop."""
    try:
        async with asyncio.timeout_at(until or _deadline(service)):
            yield
    except TimeoutError as error:
        seconds = service.limits.timeout_s
        raise RefusedRequestError(
            504, f"not done within the {seconds:g} s that are allowed: send less audio"
        ) from error


def _deadline(service: PredictionService) -> float:
    return asyncio.get_running_loop().time() + service.limits.timeout_s


async def _events(
    service: PredictionService, upload: ReceivedAudio, model: ServedModel, until: float
) -> AsyncGenerator[str]:
    """Yield the events of a timeline; the last one is ``end`` or ``error``."""
    try:
        yield _event("start", path=upload.name, model=model.facts())
        async with _in_time(service, until), aclosing(service.stream(upload, model)) as results:
            async for result in results:
                if isinstance(result, Prediction):
                    yield _event("end", **as_object(result))
                else:
                    yield _event("windows", **_as_json(result))
    except RefusedRequestError as error:
        yield _event("error", error=error.line, status=error.status, reason=error.reason)


def _event(kind: str, **facts: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(facts)}\n\n"


def _as_json(windows: ScoredWindows | Timeline) -> dict[str, Any]:
    scores = windows.scores if isinstance(windows, ScoredWindows) else windows.windows
    return {
        "starts": windows.starts.round(DIGITS).tolist(),
        "ends": windows.ends.round(DIGITS).tolist(),
        "windows": scores.astype("float64").round(DIGITS).tolist(),
    }


def _page_files() -> Iterator[tuple[str, str, str]]:
    """Yield path, content and media type of each file of the page."""
    own = files("irmas_dist.serving")
    for name in ("page.js", "map.js", "sound.js"):
        yield f"/{name}", own.joinpath(name).read_text(encoding="utf-8"), "text/javascript"
    yield "/", own.joinpath("page.html").read_text(encoding="utf-8"), "text/html"
    shared = files("irmas_dist.reports").joinpath("page.css").read_text(encoding="utf-8")
    style = own.joinpath("page.css").read_text(encoding="utf-8")
    yield "/page.css", f"{shared}\n{style}", "text/css"


def _sending(content: str, kind: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return Response(content, media_type=kind)

    return send

"""What a proxy of Ray Serve answers for replicas that die, are missing, or are well."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from irmas_dist.serving.proxy import VARIABLES, middlewares

DOCKERFILE = Path(__file__).parents[2] / "docker/Dockerfile"


async def dies(scope: Scope, receive: Receive, send: Send) -> None:
    """End without a response, as Ray Serve does when the replica dies that computes it."""


def ask(app: ASGIApp) -> httpx.Response:
    (middleware,) = middlewares()
    wrapped = middleware.cls(app, *middleware.args, **middleware.kwargs)

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(wrapped)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/")

    return asyncio.run(asked())


def test_a_replica_that_dies_is_503_and_not_500() -> None:
    answer = ask(dies)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {"error": "a replica failed during the request: try again"}


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"Retry-After": "7"}, "7")])
def test_every_503_says_when_to_try_again(given: dict[str, str], expected: str) -> None:
    answer = ask(PlainTextResponse("no replica", 503, given))
    assert (answer.status_code, answer.text) == (503, "no replica")
    assert answer.headers.get_list("retry-after") == [expected]


def test_other_responses_are_left_alone() -> None:
    async def parts() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    answer = ask(StreamingResponse(parts()))
    assert (answer.status_code, answer.text) == (200, "ab")
    assert "retry-after" not in answer.headers


def test_the_variables_name_the_function_and_the_image_sets_them() -> None:
    module, _, function = VARIABLES["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].partition(":")
    assert getattr(importlib.import_module(module), function) is middlewares
    # For a RayService, whose file has no place for them.
    set_by_image = DOCKERFILE.read_text()
    assert [
        name for name, value in VARIABLES.items() if f"{name}={value}" not in set_by_image
    ] == []

"""What Ray Serve's web servers, in proxies and in replicas, add to its responses.

It is 503 and ``Retry-After`` where a replica has died.

By itself a proxy answers 500 to the requests in flight on a replica that dies, and 503 without
``Retry-After`` when there is none.
"""

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from irmas_dist.serving.haproxy import FAILED

VARIABLES = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "irmas_dist.serving.proxy:middlewares",
    # The application leaves whatever takes time to threads and processes of its own.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_FREEZE_GC_ON_STARTUP": "1",
}
"""Environment variables of Ray Serve's controller, from which proxies and replicas inherit them."""

RETRY_AFTER = "1"
"""In seconds: a replica that dies is replaced, and others may be there."""


def middlewares() -> list[Middleware]:
    """Return what each web server adds."""
    return [Middleware(RetryLater)]


class RetryLater:
    """Answers 503 where an application ends without a response, with ``Retry-After`` as all 503s.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answered = False

        async def watched(message: Message) -> None:
            nonlocal answered
            answered = True
            if message["type"] == "http.response.start" and message["status"] == 503:
                MutableHeaders(scope=message).setdefault("Retry-After", RETRY_AFTER)
            await send(message)

        await self._app(scope, receive, watched)
        if scope["type"] == "http" and not answered:
            await JSONResponse({"error": FAILED}, 503, {"Retry-After": RETRY_AFTER})(
                scope, receive, send
            )

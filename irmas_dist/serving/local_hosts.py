"""Whom this server answers where it wants no token: those who call it by a name of its own machine.

A web site may have its own name resolve to 127.0.0.1. To a browser that has its page this server
is then the same site, which may send it requests and read the answers; but they say the name. Pages
of other sites may send requests as well, whose answers they cannot read, and browsers say so
(W3C: Fetch Metadata Request Headers; the order of the checks is that of Go's
``net/http.CrossOriginProtection``).
"""

import re

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from irmas_dist.config.serving import TOKEN, is_loopback

_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::\d*)?")


class LocalHosts:
    """Refuses requests whose ``Host`` is neither ``localhost`` nor a loopback address.

    Also those that do something and come from pages of other sites. One without these headers
    passes: it comes from no browser.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        app = self._app
        if scope["type"] != "lifespan":
            headers = Headers(scope=scope)
            given = headers.get("host")
            if given is not None and not _is_local(given):
                line = f"Host: {given}: without {TOKEN} the server answers as localhost alone"
                app = JSONResponse({"error": line}, 421)
            elif scope.get("method") not in ("GET", "HEAD") and _is_of_another_site(headers):
                line = f"without {TOKEN} the server answers pages of its own alone"
                app = JSONResponse({"error": line}, 403)
        await app(scope, receive, send)


def _is_of_another_site(headers: Headers) -> bool:
    """Return whether a request comes from a page of another site, as its browser says."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _is_local(host: str) -> bool:
    """Return whether what a request calls the server, a name or an address, is this machine."""
    found = _HOST.fullmatch(host)
    return found is not None and is_loopback((found[1] or found[2]).lower())

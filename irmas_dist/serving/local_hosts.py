"""Which names this server answers to where it wants no token: those of its own machine.

A web site may have its own name resolve to 127.0.0.1. To a browser that has its page this server
is then the same site, which may send it requests and read the answers; but they say the name.
"""

import re

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from irmas_dist.config.serving import TOKEN, is_loopback

_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::\d*)?")


class LocalHosts:
    """Refuses requests whose ``Host`` is neither ``localhost`` nor a loopback address.

    One without the header passes: it comes from no browser.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        app = self._app
        if scope["type"] != "lifespan":
            given = Headers(scope=scope).get("host")
            if given is not None and not _is_local(given):
                line = f"Host: {given}: without {TOKEN} the server answers as localhost alone"
                app = JSONResponse({"error": line}, 421)
        await app(scope, receive, send)


def _is_local(host: str) -> bool:
    """Return whether what a request calls the server, a name or an address, is this machine."""
    found = _HOST.fullmatch(host)
    return found is not None and is_loopback((found[1] or found[2]).lower())

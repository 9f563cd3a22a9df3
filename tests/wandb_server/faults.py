"""How a server misbehaves."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True)
class Fault:
    """What is done to requests before they are answered.

    Args:
        status: HTTP status to answer instead, such as 401, 403 or 500.
        delay_s: How long to wait before the answer.
        hang: Whether to wait without end.
        only: Names of the calls that it happens to; none: all of them.
        project: The project that it happens to; none: all of them.
        for_s: How long it happens, from its creation.
    """

    status: int | None = None
    delay_s: float = 0.0
    hang: bool = False
    only: Collection[str] = ()
    project: str = ""
    for_s: float = float("inf")
    began: float = field(default_factory=time.monotonic)

    async def strike(self, call: str, body: bytes = b"") -> web.Response | None:
        """Wait as this fault asks; return its answer if it is one."""
        if f'"{self.project}"'.encode() not in body and self.project:
            return None
        if (self.only and call not in self.only) or time.monotonic() - self.began > self.for_s:
            return None
        await asyncio.sleep(3_600 if self.hang else self.delay_s)
        if self.status is None:
            return None
        message = {"errors": [{"message": f"fault {self.status}"}]}
        return web.json_response(message, status=self.status)

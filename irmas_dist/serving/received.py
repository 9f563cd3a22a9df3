"""The audio of a request: multipart, raw bytes, or the URL of an object that may be read.

It is held in memory alone.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from irmas_dist import storage
from irmas_dist.config.serving import Limits
from irmas_dist.errors import IrmasError

MEGABYTE = 1_000_000

ENVELOPE = 64_000
"""Bytes that multipart may have around a file."""

DISCARDED = 64_000_000
"""Bytes of an upload that is too large which are read beyond what is allowed, and not kept."""

NOT_THERE = (FileNotFoundError, IsADirectoryError, PermissionError)
NOT_TO_BE_HAD = re.compile(r"ACCESS_DENIED|HTTP [Ss]tatus [34]")
"""Errors that asking for an object again does not mend; others are of its store."""

RETRY_AFTER_S = 10
"""After how long to ask again for an object whose store does not answer."""

STALLED_S = 20.0
"""How long an upload may pause: one that does not go on takes the place of others."""


class RefusedRequestError(Exception):
    """A request that is answered with a status and one line.

    Args:
        status: Of HTTP.
        line: What was wrong, and what to do.
        retry_after_s: After how long to try again.
        reason: A word on what was wrong, for programs.
    """

    def __init__(
        self, status: int, line: str, retry_after_s: int | None = None, reason: str | None = None
    ) -> None:
        super().__init__(line)
        self.status = status
        self.reason = reason
        self.line = storage.as_text(" ".join(line.split()))
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}


@dataclass(frozen=True)
class ReceivedAudio:
    """The audio that a request sends.

    Attributes:
        name: Of the file, as the client says.
        content: An audio file, as it seems.
        model: Name of the model; None for the first.
    """

    name: str
    content: bytes
    model: str | None = None


async def read_upload(request: Request, limits: Limits) -> ReceivedAudio:
    """Read a request's audio.

    Raises:
        RefusedRequestError: It has none, or too much, or names a URL that may not be read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    _require_known([name for name, _ in request.query_params.multi_items()], ("model", "name"))
    model = request.query_params.get("model")
    if kind == "multipart/form-data":
        found = await _multipart(request, limits, model)
    elif kind == "application/json":
        found = await _by_url(request, limits, model)
    else:
        name = request.query_params.get("name") or "audio"
        found = ReceivedAudio(name, await _body(request, limits.max_megabytes), model)
    named = kind in ("multipart/form-data", "application/json") or "name" in request.query_params
    if named and found.name and not found.content:
        raise RefusedRequestError(422, f"{found.name}: empty file")
    if not found.content:
        raise RefusedRequestError(
            422, "no audio: send a file, as the part 'file' of multipart/form-data or as the body"
        )
    return found


def _require_known(names: Sequence[str], known: tuple[str, str]) -> None:
    """Refuse what would be ignored of a query, a form or JSON: another name, or a second value."""
    for name in names:
        if name not in known:
            raise RefusedRequestError(422, f"{name[:40]}: the parameters are {' and '.join(known)}")
        if names.count(name) > 1:
            raise RefusedRequestError(422, f"{name} is given twice")


def _one_model(in_query: str | None, in_body: str | None) -> str | None:
    """Return the model that is named, in the query or in the body."""
    if in_query and in_body and in_query != in_body:
        raise RefusedRequestError(422, f"model is both {in_body} and {in_query}: name one")
    return in_body or in_query


async def _body(request: Request, megabytes: float) -> bytes:
    return b"".join([chunk async for chunk in _chunks(request, megabytes)])


def _too_large(what: str, megabytes: float) -> RefusedRequestError:
    return RefusedRequestError(
        413, f"the {what} is larger than the {megabytes:g} MB that are allowed"
    )


async def _chunks(request: Request, megabytes: float, envelope: int = 0) -> AsyncIterator[bytes]:
    """Yield a body, and refuse one that is too large once it is read, up to `DISCARDED`.

    A connection that is closed while there is something to be read is reset, and the client may
    lose the answer.
    """
    most = int(megabytes * MEGABYTE) + envelope
    too_large = False
    with suppress(ValueError):
        too_large = int(request.headers.get("content-length", 0)) > most
    size, stream = 0, request.stream()
    try:
        while (chunk := await _next(stream)) is not None:
            size += len(chunk)
            too_large = too_large or size > most
            if not too_large:
                yield chunk
            elif size > most + DISCARDED:
                break
    except ClientDisconnect as error:
        raise RefusedRequestError(400, "the upload was interrupted") from error
    if too_large:
        raise _too_large("upload", megabytes)


async def _next(stream: AsyncGenerator[bytes]) -> bytes | None:
    """Return the next bytes of a body, None at its end."""
    try:
        async with asyncio.timeout(STALLED_S):
            return await anext(stream, None)
    except TimeoutError as error:
        raise RefusedRequestError(
            408, f"the upload was interrupted: nothing came for {STALLED_S:g} s"
        ) from error


class _InMemoryParser(MultiPartParser):
    """Multipart whose files never go to disk; `_chunks` limits them."""

    spool_max_size = 2**62
    whole = False
    """Whether the last boundary has come: without it, the last part would be dropped."""

    def on_end(self) -> None:
        """Note the last boundary."""
        self.whole = True


async def _multipart(request: Request, limits: Limits, model: str | None) -> ReceivedAudio:
    stream = _chunks(request, limits.max_megabytes, ENVELOPE)
    parser = _InMemoryParser(_boundary(request), stream, max_files=1, max_fields=8)  # type: ignore[arg-type]
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeError) as error:
        reason = str(getattr(error, "message", error)).rstrip(".")
        if "Too many files" in reason:
            reason = "several files: send one per request"
        raise RefusedRequestError(400, f"not multipart/form-data: {reason}") from error
    if not parser.whole:
        raise RefusedRequestError(400, "not multipart/form-data: it is cut short")
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    if "file" in form and not files:
        raise RefusedRequestError(422, "the part 'file' is no file: send it with a file name")
    if not files:
        return ReceivedAudio("", b"")
    content = await files[0].read()
    await files[0].close()
    if len(content) > limits.max_megabytes * MEGABYTE:
        raise _too_large("upload", limits.max_megabytes)
    fields = [name for name, value in form.multi_items() if isinstance(value, str)]
    _require_known(fields, ("file", "model"))
    named = form.get("model")
    return ReceivedAudio(
        files[0].filename or "audio",
        content,
        _one_model(model, named if isinstance(named, str) else None),
    )


def _boundary(request: Request) -> Headers:
    """Return the type of a multipart body with nothing but its boundary.

    Starlette would decode fields with whatever charset the client names, some of which take
    minutes for a megabyte.
    """
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary")
    given = b"" if boundary is None else b'; boundary="%s"' % boundary
    return Headers(raw=[(b"content-type", b"multipart/form-data" + given)])


async def _by_url(request: Request, limits: Limits, model: str | None) -> ReceivedAudio:
    try:
        body = await _body(request, ENVELOPE / MEGABYTE)
    except RefusedRequestError as error:
        if error.status != 413:
            raise
        line = "JSON is larger than 64 kB: send audio with another Content-Type, such as audio/wav"
        raise RefusedRequestError(413, line) from error
    try:
        given = json.loads(body)
        url, named, names = given["url"], given.get("model"), list(given)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedRequestError(422, 'JSON should be {"url": "s3://…"}') from error
    if not isinstance(url, str) or not isinstance(named, str | None):
        raise RefusedRequestError(422, 'JSON should be {"url": "s3://…"}')
    _require_known(names, ("url", "model"))
    if not is_allowed(url, limits.allow_url_prefix):
        raise RefusedRequestError(
            403, "the server does not read this URL: it reads those of its --allow-url-prefix only"
        )
    model = _one_model(model, named)
    content = await asyncio.to_thread(_object, url, limits)
    return ReceivedAudio(url, content, model)


def is_allowed(url: str, prefixes: tuple[str, ...]) -> bool:
    """Return whether an object is in one of the folders, whatever its URL tries."""
    segments = PurePosixPath(url.partition("://")[2]).parts
    return (
        ".." not in segments
        and not set(url) & set("?#\\%\0")
        and any(url.startswith(prefix) and url != prefix for prefix in prefixes)
    )


def _object(url: str, limits: Limits) -> bytes:
    most = int(limits.max_megabytes * MEGABYTE)
    try:
        if storage.size(url) <= most:
            content = storage.read_bytes(url, most + 1)  # It may have grown since.
            if len(content) <= most:
                return content
        raise _too_large("object", limits.max_megabytes)
    except IrmasError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not (
            isinstance(cause, NOT_THERE) or NOT_TO_BE_HAD.search(str(cause))
        ):
            raise RefusedRequestError(503, str(error), retry_after_s=RETRY_AFTER_S) from error
        raise RefusedRequestError(422, str(error)) from error

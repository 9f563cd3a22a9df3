"""Messages between a replica and its subprocesses: a line of JSON, and the bytes of an array.

Nothing of them is ever unpickled. A header states the ``kind`` of its message, and the ``size`` of
the array in bytes, its ``shape`` and its ``type`` as NumPy writes it.
"""

import asyncio
import json
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Message = tuple[dict[str, Any], npt.NDArray[Any]]
"""A header and an array, which is empty where there is none."""


def as_bytes(kind: str, values: npt.NDArray[Any] | None = None, **facts: Any) -> bytes:
    """Return a message."""
    header: dict[str, Any] = {"kind": kind, "size": 0, **facts}
    if values is None:
        return json.dumps(header).encode() + b"\n"
    header |= {"size": values.nbytes, "shape": values.shape, "type": values.dtype.str}
    return json.dumps(header).encode() + b"\n" + values.tobytes()


def read(stream: BinaryIO) -> Message | None:
    """Read a message; None at the end of the stream."""
    line = stream.readline()
    if not line:
        return None
    header = json.loads(line)
    return _message(header, stream.read(header["size"]))


async def receive(stream: asyncio.StreamReader) -> Message:
    """Read a message.

    Raises:
        EOFError: The stream has ended.
        ValueError: It is not a message.
        LookupError: Likewise.
        TypeError: Likewise.
    """
    line = await stream.readline()
    if not line:
        raise EOFError
    header = json.loads(line)
    return _message(header, await stream.readexactly(header["size"]))


def _message(header: dict[str, Any], payload: bytes) -> Message:
    kind = np.dtype(header.get("type", "<f4"))
    return header, np.frombuffer(payload, kind).reshape(header.get("shape", (0,)))

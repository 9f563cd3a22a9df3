"""A subprocess that decodes untrusted uploads and can be killed at any time.

Its standard input is a socket, on which a request is a line of JSON with the descriptor of a file.
It answers on standard output with `messages`.
"""

import json
import os
import resource
import socket
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import AudioError, UnknownFormatError
from irmas_dist.features.logmel import log_mel_blocks
from irmas_dist.features.window_stream import windows_of
from irmas_dist.serving import messages

CHUNK = 64
"""Windows in a message, which are scored at once: a clip that comes meanwhile waits for them."""

HELD_S = 1200.0
"""Length of the longest audio that is decoded once and held in memory, some 100 MB, in seconds."""

MEMORY = 4 << 30
"""Bytes of address space: enough for an hour of any audio, and an end for what asks for more."""


def main() -> None:
    """Answer requests until standard input ends."""
    for kind, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MEMORY)):
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    requests = socket.socket(fileno=sys.stdin.fileno())
    _send("ready")
    while received := _request(requests):
        request, audio = received
        notes: list[str] = []
        try:
            for offsets, windows in _chunks(f"/dev/fd/{audio}", request, notes):
                _send("windows", windows, offsets=offsets)
        except AudioError as error:
            _send("error", message=str(error), unknown=isinstance(error, UnknownFormatError))
        except MemoryError:
            _send("error", message="needs too much memory to be decoded", unknown=False)
        else:
            _send("end", notes=notes)
        finally:
            os.close(audio)


def _request(requests: socket.socket) -> tuple[dict[str, Any], int] | None:
    """Return the next request and the descriptor of its audio; None if there will be none."""
    line, descriptors = b"", list[int]()
    while not line.endswith(b"\n"):
        received, more, _, _ = socket.recv_fds(requests, 1 << 16, 1)
        if not received:
            return None
        line, descriptors = line + received, descriptors + list(more)
    return json.loads(line), descriptors[0]


def _chunks(
    path: str, request: dict[str, Any], notes: list[str]
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield the first frames of up to `CHUNK` windows, and the windows."""
    settings, longest_s = _settings(request["settings"]), request["longest_s"]
    pieces = log_mel_blocks(path, settings, notes.append, longest_s, HELD_S)
    frames, hop = request["frames"], request["hop_frames"]
    cut = windows_of(pieces, frames, hop, settings.log_floor, notes.append)
    offsets: list[int] = []
    windows: list[np.ndarray] = []
    for first, window in cut:
        offsets.append(first)
        windows.append(window)
        if len(offsets) == CHUNK:
            yield offsets, np.stack(windows)
            offsets, windows = [], []
    if offsets:
        yield offsets, np.stack(windows)


@lru_cache
def _settings(text: str) -> LogMelSettings:
    """Return settings of JSON: those of a model do not change from request to request."""
    return LogMelSettings.model_validate_json(text)


def _send(kind: str, values: np.ndarray | None = None, **facts: Any) -> None:
    sys.stdout.buffer.write(messages.as_bytes(kind, values, **facts))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

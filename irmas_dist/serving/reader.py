"""A subprocess that decodes untrusted uploads and can be killed at any time.

It reads requests from standard input and answers on standard output. A message is a line of JSON
and as many bytes as its ``size`` states, so that its output is never unpickled.
"""

import json
import os
import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from irmas_dist.config.features import LogMelSettings
from irmas_dist.errors import AudioError
from irmas_dist.features.logmel import LogMel, log_mel, log_mel_blocks
from irmas_dist.features.window_stream import windows_of

CHUNK = 64
"""Windows in a message: a clip waits no longer than it takes to score these of a song."""

HELD_S = 1200.0
"""Length of the longest audio that is decoded once and held in memory, some 100 MB, in seconds."""

MEMORY = 4 << 30
"""Bytes of address space: enough for an hour of any audio, and an end for what asks for more."""


def main() -> None:
    """Answer requests until standard input ends."""
    for kind, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MEMORY)):
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    _send(answers, "ready")
    while line := requests.readline():
        request = json.loads(line)
        content = requests.read(request["size"])
        notes: list[str] = []
        try:
            for offsets, windows in _chunks(content, request, notes):
                _send(answers, "windows", windows, offsets=offsets)
        except AudioError as error:
            _send(answers, "error", message=str(error))
        except MemoryError:
            _send(answers, "error", message="needs too much memory to be decoded")
        else:
            _send(answers, "end", notes=notes)
        del content


def _chunks(
    content: bytes, request: dict[str, Any], notes: list[str]
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield the first frames of up to `CHUNK` windows, and the windows."""
    settings, longest_s = LogMelSettings(**request["settings"]), request["longest_s"]
    with _file_in_memory(content) as path:
        pieces: Iterable[LogMel]
        if settings.backend == "librosa":
            pieces = [log_mel(path, settings, note=notes.append, longest_s=longest_s)]
        else:
            pieces = log_mel_blocks(path, settings, notes.append, longest_s, HELD_S)
        cut = windows_of(pieces, request["frames"], request["hop_frames"], settings.log_floor)
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


@contextmanager
def _file_in_memory(content: bytes) -> Iterator[str]:
    """Yield the path of a file that is on no disk; where there is no such thing, a temporary."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile(prefix="irmas-") as file:
            file.write(content)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("audio")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _send(answers: BinaryIO, kind: str, values: np.ndarray | None = None, **facts: Any) -> None:
    header: dict[str, Any] = {"kind": kind, "size": 0, **facts}
    if values is not None:
        header |= {"size": values.nbytes, "shape": values.shape, "type": values.dtype.str}
    answers.write(json.dumps(header).encode() + b"\n")
    if values is not None:
        answers.write(np.ascontiguousarray(values).data)
    answers.flush()


if __name__ == "__main__":
    main()

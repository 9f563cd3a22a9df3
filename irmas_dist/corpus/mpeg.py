"""Frames of MPEG audio (MP3): how many there are, whatever the file's first one says.

The number of samples of an MP3 is stated by a first frame without audio, a tag that only newer
encoders write; without it, decoders estimate it from the size of the first frames. A tag says
nothing of another MP3 that follows.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from irmas_dist.errors import AudioError, UnknownFormatError

_KBPS = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by MPEG 1 or later, and layer."""

_SURE = 4
"""Frames in a row after which bytes are audio, and not a picture or text that resembles it."""

_SCANNED = 2**16

_CANDIDATE = re.compile(rb"\xff(?=[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xef])|ID3")
"""How a frame begins whose version, layer and bit rate there are, and how a tag begins."""


class _Run(NamedTuple):
    """Frames in a row.

    Attributes:
        start: Offset of the first.
        end: Offset after the last.
        first: Length of the first in bytes.
        frames: Number of frames.
        kind: What all of them share: version, layer, sample rate, and whether they are mono.
        partial: Whether the file ends within the next frame.
    """

    start: int
    end: int
    first: int
    frames: int
    kind: tuple[int, int, int, bool]
    partial: bool


def check_frames(file: BinaryIO, size: int) -> list[tuple[int, int]] | None:
    """Check that the frames of an MP3 are complete and of one kind.

    Returns:
        None where the file's tag states how many frames there are; else the beginnings and ends
        of the parts of the file that are frames of audio.

    Raises:
        AudioError: The file ends within a frame, or its frames are of several kinds, or there are
            none, which is an `UnknownFormatError`.
    """
    runs = list(_runs(file, size))
    if not runs:
        raise UnknownFormatError("cannot be decoded: it begins as an MP3, and has no frame of one")
    if runs[-1].partial:
        raise AudioError("is truncated: it ends within a frame")
    if len({run.kind for run in runs}) > 1:
        raise AudioError(
            "is several MP3s of different sample rates or numbers of channels joined: split it, "
            "or convert it to one"
        )
    file.seek(runs[0].start)
    first = file.read(256)
    for tag, offset in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        # Before it are side information, whose length depends on the kind, and perhaps a checksum.
        at = first.find(tag, 4, 46)
        if at >= 0:
            stated = int.from_bytes(first[at + offset : at + offset + 4], "big")
            has_number = tag == b"VBRI" or first[at + 7] & 1
            # The tag's own frame is counted by some encoders and not by others.
            if has_number and sum(run.frames for run in runs) <= stated + 2:
                return None
            # A decoder that does not see the tag does not believe it.
            runs[0] = runs[0]._replace(start=runs[0].start + runs[0].first)
            break
    return [(run.start, run.end) for run in runs]


def _runs(file: BinaryIO, size: int) -> Iterator[_Run]:
    """Yield the runs of frames in a file, without what is only likely to be one by chance."""
    at, begun = 0, False
    while at < size:
        file.seek(at)
        block = file.read(_SCANNED)
        if length := tag_length(block):
            at += length
            continue
        # The last bytes may be the beginning of a marker.
        advance = max(len(block) - 2, 1)
        for found in _CANDIDATE.finditer(block):
            offset = found.start()
            if found[0] == b"ID3":
                if not offset:
                    continue
                advance = offset
                break
            run = _run(file, size, at + offset)
            if run and (run.frames >= _SURE or not (begun or offset)):
                yield run
                if run.partial:
                    return
                advance = run.end - at
                break
        at += advance
        begun = True


def tag_length(content: bytes) -> int:
    """Return the length in bytes of the ID3 tag with which content begins; 0 if with none."""
    if not content.startswith(b"ID3") or len(content) < 10:
        return 0
    # Its size is in four bytes of seven bits.
    size = sum(byte << bits for byte, bits in zip(content[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if content[5] & 16 else 0)


def _run(file: BinaryIO, size: int, start: int) -> _Run | None:
    """Return the frames in a row that begin at an offset; None if there is none."""
    at, first, frames = start, 0, 0
    kind = None
    partial = False
    while True:
        file.seek(at)
        found = _frame(file.read(4))
        if not found or (kind and found[1] != kind):
            break
        length, kind = found
        if at + length > size:
            partial = True
            break
        at += length
        first = first or length
        frames += 1
    return _Run(start, at, first, frames, kind, partial) if kind else None


def _frame(header: bytes) -> tuple[int, tuple[int, int, int, bool]] | None:
    """Return the length in bytes and the kind of a frame; None if these bytes begin none."""
    bits = int.from_bytes(header, "big")
    version, layer = bits >> 19 & 3, 4 - (bits >> 17 & 3)
    kbps, rate = bits >> 12 & 15, bits >> 10 & 3
    if len(header) < 4 or bits >> 21 != 0x7FF:
        return None
    if version == 1 or layer == 4 or rate == 3 or kbps in (0, 15):
        return None
    newest = version == 3
    hertz = (44_100, 48_000, 32_000)[rate] >> (0 if newest else 1 if version == 2 else 2)
    bit_rate = 1_000 * _KBPS[newest, layer][kbps]
    padding = bits >> 9 & 1
    if layer == 1:
        length = 4 * (12 * bit_rate // hertz + padding)
    else:
        length = (72 if layer == 3 and not newest else 144) * bit_rate // hertz + padding
    return length, (version, layer, hertz, bits >> 6 & 3 == 3)

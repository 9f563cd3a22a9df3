"""What audio containers say about their audio, where libsndfile says nothing.

libsndfile takes a truncated file for a shorter one, reads the first of several files in one, and
trusts numbers of frames that are estimates. `checked` finds this out from the container itself:
chunk sizes of RIFF and AIFF, pages of Ogg, and, in `mpeg`, frames of MPEG.
"""

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal, NamedTuple

from irmas_dist.corpus.mpeg import check_frames, tag_length
from irmas_dist.errors import AudioError, UnknownFormatError

_OTHERS = {
    rb"....ftyp": "MPEG-4 audio (AAC or ALAC)",
    rb"\xff[\xf0\xf1\xf8\xf9]": "AAC",
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "Windows Media audio",
    rb"\x1a\x45\xdf\xa3": "Matroska or WebM",
    rb"wvpk": "WavPack",
    rb"MAC ": "Monkey's Audio",
    rb"#!AMR": "AMR",
}
"""How files begin that libsndfile does not decode."""

_SINGLE = {b"fLaC": "FLAC", b"caff": "CAF", b".snd": "AU", b"riff": "W64"}
"""How files begin that are searched for the beginning of another one."""

_NEVER_TAGGED = rb"RIF[FX]|RF64|riff|FORM|caff|\.snd|OggS"
"""How files begin of which, after an ID3 tag, it is not known whether they are whole."""

_ANY_SIZE = b"\xff\xff\xff\xff"
"""The size of a chunk that libsndfile takes to mean: to the end of the file."""

_SCANNED = 2**20
"""Bytes searched at once for the beginning of a second file."""

_TRUNCATED = re.compile(
    # AU, W64, CAF: the size of the chunk of samples by its header, and in the file.
    r"^ *(?:data|Data Size|riff) *: (\d+) \(should be (\d+)\)",
    re.MULTILINE,
)


class Readable(NamedTuple):
    """What libsndfile is to read of a file.

    Attributes:
        source: The path, or a view of the file's content.
        announced: Bytes of audio that its header announces for each that is there; 1 where that
            is not known beforehand.
        frames_known: Whether libsndfile can count its samples beforehand.
    """

    source: bytes | io.RawIOBase
    announced: float = 1.0
    frames_known: bool = True


def checked(path: str) -> Readable:
    """Look into a file's container, and return what libsndfile is to read of it.

    Raises:
        AudioError: The file is empty or truncated, is several files joined that would not be read
            as one, has a tag before a header of which libsndfile then tells nothing, or has a
            format that libsndfile does not decode, which is an `UnknownFormatError`.
        OSError: It cannot be read.
    """
    readable = Readable(os.fsencode(path))
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(16)
        if not size:
            raise AudioError("empty file")
        tagged = 0
        while length := tag_length(head):
            tagged += length
            file.seek(tagged)
            head = file.read(16)
        for magic, name in _OTHERS.items():
            if re.match(magic, head, re.DOTALL):
                raise UnknownFormatError(
                    f"is {name}, which cannot be decoded: convert it, "
                    "for example with 'ffmpeg -i FILE FILE.wav'"
                )
        if tagged and re.match(_NEVER_TAGGED, head):
            raise AudioError(
                "has an ID3 tag before its header, so that it cannot be known whether it is whole: "
                "convert it, for example with 'ffmpeg -i FILE FILE.wav'"
            )
        if _is_wave(head):
            announced, patches = _wav_audio(file, size)
            if patches:
                readable = Readable(_View(path, [(0, size)], patches))
            return readable._replace(announced=announced)
        if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
            return readable._replace(announced=_aiff_audio(file, size))
        if head.startswith(b"OggS"):
            _check_ogg(file, size)
        elif head.startswith(tuple(_SINGLE)):
            _check_single(file, head, tagged)
        elif tagged or head.startswith(b"\xff"):
            parts = check_frames(file, size)
            if parts:
                # To libsndfile the file has no end, so that its estimate is never reached.
                view = _View(path, parts, claimed=1_000 * size + _SCANNED)
                readable = Readable(view, frames_known=False)
    return readable


def announced_by_log(log: str) -> float:
    """Return the bytes of audio that a header announces for each that is there.

    libsndfile takes most truncated files for shorter ones, and only logs the difference.
    """
    if found := _TRUNCATED.search(log):
        announced, present = map(int, found.groups())
        if announced > present and not is_placeholder(announced):
            return announced / max(present, 1)
    return 1.0


def is_placeholder(size: int) -> bool:
    """Return whether a size in a header stands for an unknown one.

    Writers into a pipe do not know it. They write 0 or about 2 or 4 GiB: 0x7FFFF000 (SoX),
    0x7FFFFFFF, 0x80000000, 0xFFFFFFD8, 0xFFFFFFFF (FFmpeg), and 0x7F000000 into AIFF.
    """
    return size == 0 or any(abs(size - limit) <= 4_096 for limit in (2**31, 2**32, 0x7F000000))


class _View(io.RawIOBase):
    """Parts of a file, with some bytes replaced, and perhaps of a greater length than they have.

    Args:
        path: The file.
        parts: Beginnings and ends of its parts.
        patches: What replaces bytes of the first part, by offset.
        claimed: The length to claim; None: that of the parts.
    """

    def __init__(
        self,
        path: str,
        parts: list[tuple[int, int]],
        patches: Mapping[int, bytes] = MappingProxyType({}),
        claimed: int | None = None,
    ) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115
        self._parts, self._patches = parts, patches
        self._length = sum(end - start for start, end in parts)
        self._claimed = claimed or self._length
        self._at = 0

    def close(self) -> None:
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._claimed}
        self._at = base[whence] + offset
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Read one piece into the buffer, as much as fits and is in one part of the file."""
        if self._claimed - _SCANNED <= self._at and self._length < self._claimed:
            # Decoders look for tags at the end, and take an error there for one of the file.
            piece = bytes(len(buffer))
        else:
            piece = self._piece(len(buffer))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _piece(self, most: int) -> bytes:
        before = 0
        for start, end in self._parts:
            if self._at < before + end - start:
                offset = start + self._at - before
                self._file.seek(offset)
                piece = bytearray(self._file.read(min(most, end - offset)))
                for at, new in self._patches.items():
                    low, high = max(at, offset), min(at + len(new), offset + len(piece))
                    if low < high:
                        piece[low - offset : high - offset] = new[low - at : high - at]
                return bytes(piece)
            before += end - start
        return b""


def _is_wave(head: bytes) -> bool:
    return head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"


def _wav_audio(file: BinaryIO, size: int) -> tuple[float, dict[int, bytes]]:
    """Return how much more audio a WAV announces than it has, and what to replace in its header.

    Raises:
        AudioError: It has no audio although it announces some, or another WAV follows its audio.
    """
    file.seek(0)
    kind = file.read(4)
    order: Literal["big", "little"] = "big" if kind == b"RIFX" else "little"
    whole = int.from_bytes(file.read(4), order)
    file.seek(12)
    long_size = 0
    while len(header := file.read(8)) == 8:
        name, stated = header[:4], int.from_bytes(header[4:], order)
        at = file.tell()
        if name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        if name == b"data":
            break
        file.seek(at + stated + stated % 2)
    else:
        return 1.0, {}
    present = size - at
    if kind == b"RF64" and stated == 0xFFFFFFFF and long_size:
        stated = long_size
    elif is_placeholder(stated) and (stated or is_placeholder(whole) or whole + 8 <= at):
        return 1.0, {4: _ANY_SIZE, at - 4: _ANY_SIZE} if stated != 0xFFFFFFFF else {}
    if stated > present:
        if not present:
            raise _without_audio(stated)
        return stated / present, {}
    file.seek(at + stated + stated % 2)
    if _is_wave(file.read(12)):
        raise _joined("WAV")
    return 1.0, {}


def _aiff_audio(file: BinaryIO, size: int) -> float:
    """Return how much more audio an AIFF announces than it has.

    libsndfile's log, which says so too, is cut where much text comes before the audio.

    Raises:
        AudioError: It has no audio although it announces some.
    """
    file.seek(12)
    while len(header := file.read(8)) == 8:
        name, stated = header[:4], int.from_bytes(header[4:], "big")
        at = file.tell()
        if name == b"SSND":
            before = 8 + int.from_bytes(file.read(4), "big")
            announced, present = stated - before, size - at - before
            if is_placeholder(stated) or announced <= max(present, 0):
                return 1.0
            if present <= 0:
                raise _without_audio(announced)
            return announced / present
        file.seek(at + stated + stated % 2)
    return 1.0


def _without_audio(announced: int) -> AudioError:
    return AudioError(f"is truncated: it has none of {announced:,} bytes of audio")


def _check_ogg(file: BinaryIO, size: int) -> None:
    """Check that an Ogg file is one stream, with all pages up to one that is marked as the last."""
    file.seek(0)
    at, flags = 0, 0
    begun = False
    numbers: dict[bytes, int] = {}
    while (header := file.read(27)).startswith(b"OggS") and len(header) == 27:
        flags, serial = header[5], header[14:18]
        number = int.from_bytes(header[18:22], "little")
        if flags & 2 and begun:
            raise _joined("Ogg")
        begun = begun or not flags & 2
        if number != numbers.get(serial, number - 1) + 1:
            raise AudioError("is damaged: some of its pages are missing")
        numbers[serial] = number
        at += 27 + header[26] + sum(file.read(header[26]))
        if at > size:
            break
        file.seek(at)
    if at > size or not flags & 4:
        raise AudioError("is truncated: its last page is missing")


def _check_single(file: BinaryIO, head: bytes, start: int) -> None:
    """Check that a file, from an offset on, does not contain the beginning of another of its kind.

    Raises:
        AudioError: It does, or it is a FLAC that does not say how long it is.
    """
    if head.startswith(b"fLaC"):
        file.seek(start + 21)
        samples = file.read(5)
        if len(samples) == 5 and not int.from_bytes(samples, "big") & (2**36 - 1):
            raise AudioError(
                "is FLAC of unknown length, as written into a pipe, which cannot be decoded: "
                "convert it, for example with 'ffmpeg -i FILE FILE.wav'"
            )
    beginning = head[:8]
    file.seek(start + 1)
    before = b""
    while block := file.read(_SCANNED):
        if beginning in before + block:
            raise _joined(_SINGLE[head[:4]])
        before = block[-7:]


def _joined(kind: str) -> AudioError:
    return AudioError(
        f"is several {kind} files joined, which would not be decoded as one: split it, or convert "
        "it to one"
    )

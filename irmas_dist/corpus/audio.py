"""Audio files to samples: the one way by which every command opens audio, with one verdict.

libsndfile decodes. What it passes over is detected here and in `containers`: files that are
truncated or joined, numbers of samples that are estimates.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from sys import maxsize
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import soundfile

from irmas_dist import storage
from irmas_dist.corpus.containers import announced_by_log, checked
from irmas_dist.errors import AudioError, UnavailableFileError, UnknownFormatError

Float32 = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16] | Float32
Location = str | os.PathLike[str]
Span = tuple[float, float | None]
"""Where a clip begins and ends in its file, in seconds; None is the end of the file."""

WHOLE: Span = (0.0, None)

BLOCK_SAMPLES = 2**20
"""Samples of every channel decoded at once: 24 s at 44.1 kHz, so that a clip is one block. Of more
channels than two they are fewer."""

TOLERANCE_S = 0.02
"""A file that lacks at most this much of the audio that it announces is whole, and has what is
there: some writers count a header as audio, or stop within a buffer."""

FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3")
"""Formats, as soundfile names them, of which it is known whether a file is whole."""

LOWEST_HZ, HIGHEST_HZ = 1_000, 1_000_000
"""Sample rates that audio may have; a header that says another is damaged."""

MOST_PER_SECOND = 2 * 192_000
"""Samples of all channels for each second that is allowed, where length is limited: silence of many
channels and a high rate is small, and takes long to decode."""

_NOT_RECOGNISED = 1
"""The code of libsndfile for a file that begins as no format does that it knows."""

_OGG_PAGE_SAMPLES = 2**18
"""Samples of the longest page, 255 packets of 1,024: libsndfile misplaces what it seeks in the
last page, of which only the end is stated."""

_SIXTEEN_BITS = ("PCM_16", "PCM_S8", "PCM_U8")

# glibc returns freed memory to the system, and each clip would fault it in again, page by page,
# for a third of its time. Once a block of almost 32 MB has been freed, glibc keeps 64 MB.
np.empty(2**25 - 2**13, np.uint8)


class _Sound(soundfile.SoundFile):
    """A sound file that is read from one sample to the next.

    soundfile seeks the place where it is after each read of a file in which it can, and libmpg123
    has lost the state of its decoder then: with MPEG-2, as of 22,050 Hz, the next 20 ms are wrong.
    """

    @property
    def can_seek(self) -> bool:
        """Whether a place can be sought in the file."""
        return super().seekable()

    def seekable(self) -> bool:
        """Return False, so that soundfile does not seek by itself."""
        return False


class AudioFile:
    """An audio file, or a span of one, open for decoding; longer ones are refused.

    Attributes:
        sample_rate: In Hz.
        channels: Number of channels.
        samples: Samples of each channel that the last `blocks` has decoded.
    """

    def __init__(self, path: str, span: Span = WHOLE, longest_s: float = inf) -> None:
        self._readable = checked(path)
        self._sound = _Sound(self._readable.source)
        self.samples = 0
        # `maxsize` after a read or seek that failed, which ends nobody knows where: the next span
        # is decoded anew.
        self._at = 0
        kind = self._sound.format
        if self._sound.subtype.startswith("ALAC"):
            kind += " with ALAC"  # of which damage within is decoded to something else
        if kind not in FORMATS:
            self.__exit__()
            raise AudioError(
                f"is {kind}, of which it cannot be known whether it is whole: "
                "convert it to WAV or FLAC"
            )
        self.sample_rate = int(self._sound.samplerate)
        if not LOWEST_HZ <= self.sample_rate <= HIGHEST_HZ:
            self.__exit__()
            raise AudioError(
                f"has a sample rate of {self.sample_rate:,} Hz by its header, which no audio has"
            )
        self.channels = int(self._sound.channels)
        self.select(span)
        self._longest_s = longest_s
        if self._readable.frames_known:
            self._require_shorter(self._sound.frames)

    def select(self, span: Span, *, exact: bool = True) -> None:
        """Select the span that `blocks` decodes next; the file is not checked again.

        Args:
            span: Where it begins and ends, in seconds.
            exact: Whether its samples are bit for bit those of the span alone, which takes longer
                with MP3s; else up to rounding.
        """
        self._exact = exact
        start, stop = span
        self._start = round(start * self.sample_rate)
        self._stop = None if stop is None else round(stop * self.sample_rate)

    def blocks(self) -> Iterator[Samples]:
        """Decode the span from its beginning in blocks of `BLOCK_SAMPLES`, the last of the rest.

        Yields:
            Samples of shape (samples, channels) and the type that `read_audio` returns.

        Raises:
            AudioError: The file or the span is empty, or the file ends before its header, or the
                end of the span, says so.
        """
        # The state of an MP3's decoder after a seek differs, by rounding, from that without one.
        sought = self._exact and self._sound.format == "MP3" and self._seeks
        if self._at > self._start or (self._at and sought):
            self._reopen()
        self.samples = 0
        dtype = "int16" if self._sound.subtype in _SIXTEEN_BITS else "float32"
        before = self._skip_to_start()
        wanted = float("inf") if self._stop is None else self._stop - self._start
        while len(block := self._read(wanted - self.samples, dtype)):
            self.samples += len(block)
            self._require_shorter(self.samples)
            yield block
        ends = before + self.samples
        announced = self._announced() if self._stop is None else self._stop
        if announced - ends > TOLERANCE_S * self.sample_rate:
            why = (
                f"is truncated: its header announces {announced / self.sample_rate:.2f} s, but it"
                if self._stop is None
                else f"is too short: its span ends at {announced / self.sample_rate:.2f} s, "
                "but the file"
            )
            raise AudioError(f"{why} ends after {ends / self.sample_rate:.2f} s")
        if not self.samples:
            if self._start and self._stop is None:
                begins = f"begins at {self._start / self.sample_rate:.2f} s"
                raise AudioError(
                    f"is too short: its span {begins}, but the file ends after "
                    f"{ends / self.sample_rate:.2f} s"
                )
            raise AudioError("its span has no samples" if self._start else "holds no samples")

    def _reopen(self) -> None:
        self._sound.close()
        self._at = maxsize
        source = self._readable.source
        if isinstance(source, bytes):
            Path(os.fsdecode(source)).stat()  # libsndfile would not say that it is gone.
        else:
            source.seek(0)
        self._sound = _Sound(source)
        self._at = 0

    def _require_shorter(self, samples: int) -> None:
        """Refuse more audio than is allowed, before the rest of it is decoded."""
        if samples > self._longest_s * self.sample_rate:
            self.__exit__()
            raise AudioError(f"is longer than {self._longest_s:g} s, the longest audio allowed")
        if samples * self.channels > self._longest_s * MOST_PER_SECOND:
            self.__exit__()
            raise AudioError(
                f"has more samples than {self._longest_s:g} s of two channels at 192 kHz, the most "
                "audio allowed"
            )

    @property
    def _seeks(self) -> bool:
        """Whether a place is sought in the file, instead of decoding what is before it."""
        readable = self._readable
        return self._sound.can_seek and readable.frames_known and readable.announced == 1

    def _skip_to_start(self) -> int:
        """Leave out what lies before the span; return how many samples there are before it."""
        if not self._start:
            return 0  # Seeking there, too, is refused of some formats.
        if self._seeks:
            place = self._place_to_seek()
            if place > self._at:
                self._at = maxsize
                self._at = self._sound.seek(place)
        while self._at < self._start and len(self._read(self._start - self._at, "float32")):
            pass
        return self._at

    def _place_to_seek(self) -> int:
        """Return the last place before the span from which decoding gives the file's samples."""
        place = min(self._start, self._sound.frames)
        if self._sound.format in ("MP3", "OGG"):
            place -= self.sample_rate  # Frames depend on earlier ones.
        if self._sound.format == "OGG":
            place = min(place, self._sound.frames - _OGG_PAGE_SAMPLES)
        return max(place, 0)

    def _read(self, most: float, dtype: str) -> Samples:
        # No more memory for many channels than for two.
        at, most = self._at, min(BLOCK_SAMPLES * 2 // max(self.channels, 2), most)
        if self._sound.can_seek:
            most = min(most, self._sound.frames - at)
        self._at = maxsize
        samples: Samples = self._sound.read(max(int(most), 0), dtype, always_2d=True)
        self._at = at + len(samples)
        return samples

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sound.close()
        if not isinstance(self._readable.source, bytes):
            self._readable.source.close()

    def _announced(self) -> float:
        """Return the number of samples that the header announces, 0 if it cannot know."""
        if not self._readable.frames_known:
            return 0
        frames = self._sound.frames * self._readable.announced
        if self._sound.format not in ("WAV", "WAVEX", "RF64", "AIFF"):
            frames *= announced_by_log(self._sound.extra_info)
        return float(frames)


@contextmanager
def open_audio(
    location: Location, span: Span = WHOLE, longest_s: float = inf
) -> Iterator[AudioFile]:
    """Open the audio file at a path or URL, or a span of it, for decoding.

    Any format of `FORMATS`, sample rate from `LOWEST_HZ` to `HIGHEST_HZ`, number of channels and
    sample width is fine.

    Raises:
        AudioError: Now or while reading: the file does not exist, cannot be read or decoded, is
            truncated, empty, several files in one, longer than ``longest_s`` seconds, or ends
            before the span.
    """
    with decoding(), local_file(location) as path, AudioFile(path, span, longest_s) as file:
        yield file


@contextmanager
def decoding() -> Iterator[None]:
    """Turn the errors of files and of libsndfile into one `AudioError` with the reason."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnavailableFileError("no such file") from error
    except OSError as error:
        raise UnavailableFileError(f"cannot be read: {error.strerror or error}") from error
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".").removeprefix("Error : ")
        if reason.startswith("File does not exist"):
            # There is one; so libsndfile says where its decoder of MPEG finds nothing.
            raise UnknownFormatError("cannot be decoded: Format not recognised") from error
        if error.code == _NOT_RECOGNISED:
            raise UnknownFormatError(f"cannot be decoded: {reason}") from error
        damaged = reason.endswith(("lost sync", "is malformed"))
        hint = "; it is cut short or damaged" if damaged else ""
        raise AudioError(f"cannot be decoded: {reason}{hint}") from error
    except soundfile.SoundFileError as error:
        raise AudioError(f"cannot be decoded: {error}") from error


@contextmanager
def local_file(location: Location) -> Iterator[str]:
    """Yield the path of a file: its own, or of a URL that of a temporary copy.

    Raises:
        AudioError: It is not a file: a directory, a device or a pipe.
        OSError: There is none, or it cannot be read.
    """
    if storage.is_url(location):
        # Decoders read small pieces, and a store answers slowly.
        with tempfile.NamedTemporaryFile(prefix="irmas-") as copy:
            with storage.open_file(location) as stream:
                shutil.copyfileobj(stream, copy, 2**20)
            copy.flush()
            yield copy.name
        return
    if not stat.S_ISREG(Path(location).stat().st_mode):
        raise AudioError("cannot be read: not a file")
    yield os.fspath(location)


def read_audio(location: Location) -> tuple[Samples, int]:
    """Decode an audio file.

    Returns:
        Samples of shape (samples, channels), and their rate in Hz. Files of up to 16 bits give
        int16, which decodes several times faster; all others float32, nominally in [-1, 1].

    Raises:
        AudioError: As from `open_audio`.
    """
    with open_audio(location) as file:
        blocks: list[Any] = list(file.blocks())
        return np.concatenate(blocks) if len(blocks) > 1 else blocks[0], file.sample_rate

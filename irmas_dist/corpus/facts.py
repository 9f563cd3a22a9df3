"""Facts about an audio file: its digest, duration, rate and channels, and whether it is usable."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.corpus.audio import (
    WHOLE,
    AudioFile,
    Location,
    Span,
    decoding,
    local_file,
)
from irmas_dist.corpus.mixdown import survey
from irmas_dist.errors import AudioError


@dataclass
class AudioFacts:
    """Facts about an audio file; None where they cannot be known."""

    duration_s: float | None = None
    sample_rate: int | None = None  # in Hz
    channels: int | None = None
    bytes: int | None = None  # size of the file
    modified_ns: int | None = None  # when a local file was last changed, since 1970
    md5: str | None = None  # of the file, and of the span where the clip is one
    file_md5: str | None = None  # of the file alone
    problem: str | None = None  # why the file cannot be used; None when it can
    note: str | None = None  # what is unusual of its audio, as from `mix_down`


def read_facts(location: Location) -> AudioFacts:
    """Read the file at a path or URL to its end, as every later stage does.

    A header is not believed: that of many formats is an estimate, and none tells silence or
    channels that cancel each other. Decoding a WAV of IRMAS takes less time than its digest.
    """
    return read_spans(location, [WHOLE])[0]


def read_spans(location: Location, spans: Sequence[Span]) -> list[AudioFacts]:
    """Read the facts of clips that lie in one file; those of a whole file are `read_facts`'.

    The file is fetched once, and read to its end: a span of a damaged file is not trusted.
    """
    try:
        with decoding(), local_file(location) as path:
            # Before it is read: what is written meanwhile is a later change.
            modified_ns = Path(path).stat().st_mtime_ns
            whole = _of_file(path)
            # Some file systems take times that Parquet does not.
            if not storage.is_url(location) and modified_ns < 2**63:
                whole.modified_ns = modified_ns
            if whole.problem or all(span == WHOLE for span in spans):
                return [_of_span(None, span, whole) for span in spans]
            with AudioFile(path) as file:
                # In order: in some files a span is reached only by decoding all before it.
                facts = {
                    span: _of_span(file, span, whole) for span in sorted(spans, key=itemgetter(0))
                }
                return [facts[span] for span in spans]
    except AudioError as error:
        return [AudioFacts(problem=str(error)) for _ in spans]


def span_of(clip: Mapping[str, Any]) -> Span:
    """Return the span of a clip by its row of a manifest."""
    return clip["start_s"] or 0.0, clip["end_s"]


def changed(location: Location, path: str, clips: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return of each clip of a file whether the file is another than the one that was indexed.

    It is told by its size and its digest, which for a local file is computed only where the time
    of its last change differs too, as copies of a tree may not keep it: that of each would add half
    to the time of extraction.

    Args:
        location: Path or URL of the file.
        path: The file, or a local copy of it.
        clips: Their rows of the manifest.

    Raises:
        OSError: There is none, or it cannot be read.
    """
    status = Path(path).stat()
    same_time = () if storage.is_url(location) else (None, status.st_mtime_ns)

    @cache
    def digest() -> str:
        with Path(path).open("rb") as content:
            return hashlib.file_digest(content, "md5").hexdigest()

    def differs(clip: Mapping[str, Any]) -> bool:
        if clip["bytes"] not in (None, status.st_size):
            return True
        if clip["md5"] is None or clip["modified_ns"] in same_time:
            return False
        return _of_clip(digest(), span_of(clip)) != clip["md5"]

    return [differs(clip) for clip in clips]


def _of_file(path: str) -> AudioFacts:
    facts = AudioFacts()
    try:
        with decoding():
            with Path(path).open("rb") as content:
                facts.md5 = facts.file_md5 = hashlib.file_digest(content, "md5").hexdigest()
                facts.bytes = content.tell()
            with AudioFile(path) as file:
                facts.sample_rate, facts.channels = file.sample_rate, file.channels
                try:
                    facts.note = survey(file.blocks).note
                finally:
                    facts.duration_s = file.samples / file.sample_rate
    except AudioError as error:
        facts.problem = str(error)
    return facts


SPAN = "#t="
"""Between the digest of a file and the span of a clip, as in W3C's media fragments."""


def _of_clip(file_md5: str, span: Span) -> str:
    """Return the digest of a clip of a file: that of the file, and the span if it is one."""
    return file_md5 if span == WHOLE else f"{file_md5}{SPAN}{span[0]},{span[1]}"


def _of_span(file: AudioFile | None, span: Span, whole: AudioFacts) -> AudioFacts:
    if span == WHOLE:
        return whole
    facts = replace(whole, note=None)
    if whole.md5:
        facts.md5 = _of_clip(whole.md5, span)
    if file is None:
        return facts
    try:
        with decoding():
            file.select(span, exact=False)
            facts.note = survey(file.blocks).note
            facts.duration_s = file.samples / file.sample_rate
    except AudioError as error:
        facts.problem, facts.duration_s = str(error), None
    return facts

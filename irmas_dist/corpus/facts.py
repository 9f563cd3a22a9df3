"""Facts about an audio file: its digest, duration, rate and channels, and whether it is usable."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

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
    md5: str | None = None  # of the file, and of the span where the clip is one
    file_md5: str | None = None  # of the file alone
    problem: str | None = None  # why the file cannot be used; None when it can
    note: str | None = None  # what is unusual of its audio, as from `mix_down`


def read_facts(location: Location) -> AudioFacts:
    """Read the file at a path or URL to its end, as every later stage does.

    A header is not believed: that of many formats is an estimate, and none tells silence or
    channels that cancel each other. Decoding a WAV of IRMAS takes less time than its digest.
    """
    facts = AudioFacts()
    try:
        with decoding(), local_file(location) as path:
            with Path(path).open("rb") as content:
                facts.md5 = facts.file_md5 = hashlib.file_digest(content, "md5").hexdigest()
                facts.bytes = content.tell()
            with AudioFile(path) as file:
                facts.sample_rate, facts.channels = file.sample_rate, file.channels
                try:
                    facts.note = survey(file.blocks, "mean").note
                finally:
                    facts.duration_s = file.samples / file.sample_rate
    except AudioError as error:
        facts.problem = str(error)
    return facts


def read_spans(location: Location, spans: Sequence[Span]) -> list[AudioFacts]:
    """Read the facts of clips that lie in one file; those of a whole file are `read_facts`'.

    The file is fetched once, and read to its end: a span of a damaged file is not trusted.
    """
    try:
        with decoding(), local_file(location) as path:
            whole = read_facts(path)
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


def _of_span(file: AudioFile | None, span: Span, whole: AudioFacts) -> AudioFacts:
    if span == WHOLE:
        return whole
    facts = replace(whole, note=None)
    if whole.md5:
        facts.md5 = hashlib.md5(f"{whole.md5} {span}".encode()).hexdigest()
    if file is None:
        return facts
    try:
        with decoding():
            file.select(span)
            facts.note = survey(file.blocks, "mean").note
            facts.duration_s = file.samples / file.sample_rate
    except AudioError as error:
        facts.problem, facts.duration_s = str(error), None
    return facts

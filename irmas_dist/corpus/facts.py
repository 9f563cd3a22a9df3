"""Facts about an audio file: its digest, duration, rate and channels, and whether it is usable."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from irmas_dist.corpus.audio import AudioFile, Location, decoding, local_file
from irmas_dist.corpus.mixdown import survey
from irmas_dist.errors import AudioError


@dataclass
class AudioFacts:
    """Facts about an audio file; None where they cannot be known."""

    duration_s: float | None = None
    sample_rate: int | None = None  # in Hz
    channels: int | None = None
    bytes: int | None = None  # size of the file
    md5: str | None = None
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
                facts.md5 = hashlib.file_digest(content, "md5").hexdigest()
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

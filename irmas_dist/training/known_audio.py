"""The audio that a model knows: what it has learnt, and what it was validated on."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from irmas_dist import storage
from irmas_dist.corpus.facts import SPAN
from irmas_dist.storage.results import KNOWN_FILE

LEARNT, VALIDATED = "learnt", "validated"
"""What is said of a file in the column ``use``."""


@dataclass(frozen=True)
class KnownAudio:
    """Digests of audio files: whole recordings, whichever part of them a clip is.

    Attributes:
        learnt: What the model has learnt.
        validated: By what its epoch and its thresholds were chosen.
    """

    learnt: frozenset[str] = frozenset()
    validated: frozenset[str] = frozenset()

    def __or__(self, other: "KnownAudio") -> "KnownAudio":
        return KnownAudio(self.learnt | other.learnt, self.validated | other.validated)


def recordings(digests: Iterable[str | None]) -> frozenset[str]:
    """Return the digests of the files of clips, whose own digests may have a span as well."""
    return frozenset(digest.split(SPAN)[0] for digest in digests if digest)


def write_known(directory: storage.Location, known: KnownAudio) -> None:
    """Write the table of a model directory."""
    uses = ((LEARNT, known.learnt), (VALIDATED, known.validated))
    rows = [(digest, use) for use, digests in uses for digest in sorted(digests)]
    columns = [pa.array([row[column] for row in rows], pa.string()) for column in range(2)]
    table = pa.table(columns, names=["md5", "use"])
    storage.write_table(storage.join(directory, KNOWN_FILE), table)


def read_known(directory: storage.Location) -> KnownAudio:
    """Return what a model directory says of it; nothing if it does not say."""
    path = storage.join(directory, KNOWN_FILE)
    if not storage.exists(path):
        return KnownAudio()
    rows = storage.read_table(path, ["md5", "use"]).to_pylist()
    learnt, validated = (
        frozenset(row["md5"] for row in rows if row["use"] == use) for use in (LEARNT, VALIDATED)
    )
    return KnownAudio(learnt, validated)

"""Parsing of IRMAS's file names and label files, by position and never by search.

``[cla]`` is clarinet as the instrument and classical as the genre, so searching a name for codes
gives wrong labels.
"""

import re
import unicodedata
from dataclasses import dataclass

DRUMS = {"dru": True, "nod": False, "---": None}
"""Whether there are drums, by the second of three tags; ``---`` means unknown."""

_TRAINING_NAME = re.compile(
    r"(?:[0-9]+__)?\[(?P<instrument>[^\]]*)\](?:\[(?P<drums>[^\]]*)\])?\[(?P<genre>[^\]]*)\]"
    r"(?P<recording>[0-9]+)__(?P<clip>[0-9]+)"
)
_CLIP_NAME = re.compile(r"(?P<recording>.+)__[0-9]+", re.DOTALL)
_TESTING_NAME = re.compile(r"(?P<song>.+)-[0-9]+", re.DOTALL)


@dataclass(frozen=True)
class ClipName:
    """The parts of the name of an IRMAS training file."""

    instrument: str  # the first tag
    genre: str  # the last tag
    drums: bool | None  # whether there are drums; None where no tag tells
    recording: str  # ID of the recording that the clip is from


def parse_training_name(stem: str) -> ClipName | None:
    """Parse the name of a training file, without its suffix; None when it has another form.

    The forms are ``[instrument][genre]recording__clip`` and
    ``number__[instrument][drums][genre]recording__clip``.
    """
    match = _TRAINING_NAME.fullmatch(stem)
    if match is None:
        return None
    drums = DRUMS.get(match["drums"])
    return ClipName(match["instrument"], match["genre"], drums, match["recording"])


def recording_of(stem: str) -> str | None:
    """Return the recording of a training clip; None when its name does not end in ``__k``.

    In IRMAS's names it is the number before that ending, in others all of the name before it.
    """
    if name := parse_training_name(stem):
        return name.recording
    match = _CLIP_NAME.fullmatch(stem)
    return match["recording"] if match else None


def song_of(stem: str) -> str:
    """Return the song of a test excerpt: its name without the number at its end."""
    match = _TESTING_NAME.fullmatch(stem)
    return match["song"] if match else stem


def read_labels(content: str | bytes) -> list[str]:
    """Parse a label file: one code a line, with any white space around it.

    A byte order mark and blank lines are skipped, and a repeated code counts once. A line is one
    code, spaces within it included, so that a line with two codes is reported as an unknown one.

    Args:
        content: Content of the file; bytes that are not UTF-8 become U+FFFD.
    """
    text = content if isinstance(content, str) else content.decode("utf-8", errors="replace")
    lines = unicodedata.normalize("NFC", text.removeprefix("\ufeff")).splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))

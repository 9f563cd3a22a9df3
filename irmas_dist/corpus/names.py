"""What the names of IRMAS's files say, and its label files: by position, never by search.

``[cla]`` is clarinet where the instrument stands and classical where the genre stands, so
that a name that is searched for codes gives wrong labels.
"""

import re
import unicodedata
from dataclasses import dataclass

DRUMS = {"dru": True, "nod": False, "---": None}
"""Whether there are drums, by the second of three tags; ``---`` says that nobody knows."""

_TRAINING_NAME = re.compile(
    r"(?:[0-9]+__)?\[(?P<instrument>[^\]]*)\](?:\[(?P<drums>[^\]]*)\])?\[(?P<genre>[^\]]*)\]"
    r"(?P<recording>[0-9]+)__(?P<clip>[0-9]+)"
)
_CUT_NAME = re.compile(r"(?P<recording>.+)__[0-9]+", re.DOTALL)
_TESTING_NAME = re.compile(r"(?P<song>.+)-[0-9]+", re.DOTALL)


@dataclass(frozen=True)
class ClipName:
    """What the name of an IRMAS training file says.

    Attributes:
        instrument: The first tag.
        genre: The last tag.
        drums: Whether there are drums; none where the name does not tell.
        recording: Identity of the recording that the clip was cut from.
    """

    instrument: str
    genre: str
    drums: bool | None
    recording: str


def parse_training_name(stem: str) -> ClipName | None:
    """Parse the name of a training file.

    The forms are ``[instrument][genre]recording__clip`` and
    ``number__[instrument][drums][genre]recording__clip``.

    Args:
        stem: The name without its suffix.

    Returns:
        What it says; none when it is of neither form.
    """
    match = _TRAINING_NAME.fullmatch(stem)
    if match is None:
        return None
    return ClipName(
        instrument=match["instrument"],
        genre=match["genre"],
        drums=DRUMS.get(match["drums"]),
        recording=match["recording"],
    )


def recording_of(stem: str) -> str | None:
    """Return the recording of a training clip; none when its name does not end in ``__k``.

    For IRMAS's own names this is the number that stands before the end, for any other the
    name less the end.
    """
    name = parse_training_name(stem)
    if name:
        return name.recording
    match = _CUT_NAME.fullmatch(stem)
    return match["recording"] if match else None


def song_of(stem: str) -> str:
    """Return the song of a test excerpt: its name less the number at its end."""
    match = _TESTING_NAME.fullmatch(stem)
    return match["song"] if match else stem


def read_labels(content: str | bytes) -> list[str]:
    """Parse a label file: one code a line, whatever white space is around it.

    A byte order mark and blank lines are skipped, and a code that is repeated counts once.
    A line is one code, spaces within it included: a line that names two is a code that no
    vocabulary has, and is told as such.

    Args:
        content: What is in the file; bytes are UTF-8, and those that are not become U+FFFD.
    """
    text = content if isinstance(content, str) else content.decode("utf-8", errors="replace")
    lines = unicodedata.normalize("NFC", text.removeprefix("\ufeff")).splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))

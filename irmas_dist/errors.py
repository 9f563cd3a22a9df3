"""The exception that users see: one line that says what to do about it."""

import re
from collections.abc import Sequence

PASSWORD = re.compile(
    r"(?<=://)([^/\s:@\"]*):(?:\S+@|(?!\d+(?:[^\w@]|$))(?<!\[:)(?:(?!://)[^'\"\n])+@(?=[^'\"\s@]*(?:['\"]|$)))"
    r"|(?:(?<=http://)|(?<=https://))[^/\s:@'\"?#]+@"
    r"|(?<=[?&#])"
    r"([\w-]*(?:password|secret|token|signature|credential|(?:access|account|api)_?key)\w*|sig)"
    r"=[^&\s]+",
    re.IGNORECASE,
)
"""A secret in a URL, such as a database's password, an object store's key or a token.

A password may have spaces if its URL is quoted or ends the text.
"""


class IrmasError(Exception):
    """An error that the user can fix: bad input, a missing file, an unreachable cluster.

    The message is one line: what was wrong, where, and what to do. The command line prints it
    unchanged and exits with status 1; any other exception is a bug, whose traceback goes to the
    log file.
    """


class StoreError(IrmasError):
    """A file system or object store that fails: full, read-only, or out of reach."""


class UsageError(IrmasError):
    """An option with a value that it cannot have; the command line exits with status 2."""


class AudioError(IrmasError):
    """A file or array without usable audio; the message is the reason, without its name."""


class UnavailableFileError(AudioError):
    """A file that is not in its place now: missing, unreadable, or another than was indexed."""


class UnknownFormatError(AudioError):
    """A file of a format that is not decoded here, whether it is whole or damaged."""


def without_password(text: str) -> str:
    """Return a text with ``***`` for the passwords of the URLs in it."""

    def mask(found: re.Match[str]) -> str:
        user, name = found.groups()
        return f"{name}=***" if name else "***@" if user is None else f"{user}:***@"

    return PASSWORD.sub(mask, text)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first ``most`` names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def last_line(error: BaseException) -> str:
    """Return the last line of an error's text, or its type where it has none.

    The last line of an error that crossed processes states what was raised there. That of a CUDA
    error is advice on debugging; the line with the reason is returned instead. That of Ray on a
    process that has died is cut before the causes that are common.
    """
    text = str(error).strip() or type(error).__name__
    if reason := re.search(r"\bCUDA error: .*", text):
        return reason[0]
    line = text.splitlines()[-1].strip()
    died = re.search(r"Worker exit detail: (.+?)\.?(?: Some common causes include|$)", line)
    return f"its process has died: {died[1]}" if died else line


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether there was too little memory, of the machine or of a GPU.

    torch raises several types then, not all of which are its ``OutOfMemoryError``; cuDNN finds no
    engine where there is no room for its workspace.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    told = re.search(
        "out of memory|can't allocate memory|_ALLOC_FAILED|unable to find an engine",
        first_line(error),
    )
    return isinstance(error, RuntimeError) and told is not None

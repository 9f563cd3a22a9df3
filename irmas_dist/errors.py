"""The exception that users see: one line that says what to do about it."""


class IrmasError(Exception):
    """An error that the user can fix: bad input, a missing file, an unreachable cluster.

    The message is one line: what was wrong, where, and what to do. The command line prints it
    unchanged and exits with status 1; any other exception is a bug, whose traceback goes to the
    log file.
    """


class AudioError(IrmasError):
    """A file or array without usable audio; the message is the reason, without its name."""

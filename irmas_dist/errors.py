"""The one exception that users see: a single line that says what to do about it."""


class IrmasError(Exception):
    """Something the user can mend: bad input, a missing file, a cluster that is not there.

    The message is one line: what was wrong, where, and what to do. The command line
    prints it as it stands and exits with status 1; anything else that reaches the
    command line is a defect of ours and keeps its traceback in the log file.
    """

"""``python -m irmas_dist`` and the console script ``irmas``."""

import getpass
import os
import sys


def main() -> None:
    """Run the command line and exit with its status."""
    _open_standard_streams()
    _name_user()
    # Only now: help and errors of usage must not wait for torch and Ray.
    try:
        from irmas_dist.cli.main import run
    except KeyboardInterrupt:
        print("irmas: interrupted", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        # As a rule on a cluster's node, where the code was sent and its libraries were not.
        sys.exit(
            f"irmas: {sys.executable} lacks {error.name}: install irmas-dist with what it needs, "
            "on a cluster on every node"
        )
    sys.exit(run(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Open those that are closed on nothing, or the next file would be taken for one of them."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            lowest_free = os.open(os.devnull, os.O_RDWR)  # which is this one
            setattr(sys, name, os.fdopen(lowest_free, "w" if descriptor else "r"))


def _name_user() -> None:
    """Name a user whom the system does not know, as in containers: PyTorch ends without a name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}"


if __name__ == "__main__":
    main()

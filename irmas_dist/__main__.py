"""``python -m irmas_dist`` and the console script ``irmas``."""

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    # Only now: help and errors of usage must not wait for torch and Ray.
    from irmas_dist.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

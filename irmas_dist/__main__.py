"""``python -m irmas_dist`` and the console script ``irmas``."""

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    # Only now: help and errors of usage must not wait for torch and Ray.
    try:
        from irmas_dist.cli.main import run
    except ModuleNotFoundError as error:
        # As a rule on a cluster's node, where the code was sent and its libraries were not.
        sys.exit(
            f"irmas: {sys.executable} lacks {error.name}: install irmas-dist with what it needs, "
            "on a cluster on every node"
        )
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

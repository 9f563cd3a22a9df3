"""What the command line of a benchmark may say."""

import argparse


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose ``--help`` shows the docstring of a benchmark as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )

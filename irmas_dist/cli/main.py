"""The command line: every command by its name."""

import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from irmas_dist import __version__
from irmas_dist.cli.adapt import adapt
from irmas_dist.cli.compare import compare
from irmas_dist.cli.corpus import download, index
from irmas_dist.cli.demo import demo
from irmas_dist.cli.ensemble import ensemble
from irmas_dist.cli.features import extract
from irmas_dist.cli.help import HelpfulCommand, HelpfulGroup
from irmas_dist.cli.inference import export, predict
from irmas_dist.cli.jobs import jobs_app, submit
from irmas_dist.cli.render import render
from irmas_dist.cli.scores import evaluate, report
from irmas_dist.cli.search import review, sweep, thresholds
from irmas_dist.cli.serve import serve
from irmas_dist.cli.train import train
from irmas_dist.terminal import visible

app = typer.Typer(
    name="irmas",
    help="Find the instruments that play in music: train, search and use multilabel models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    cls=HelpfulGroup,
)

for command in (
    *(render, download, index, extract, train, sweep, review, thresholds, ensemble),
    *(adapt, evaluate, compare, report, predict, serve, export, demo),
):
    app.command(cls=HelpfulCommand)(command)
app.command(cls=HelpfulCommand, context_settings={"allow_interspersed_args": False})(submit)
app.add_typer(jobs_app, name="jobs")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"irmas {__version__}")
        raise typer.Exit


@app.callback()
def _irmas(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    del version


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: What follows ``irmas``.

    Returns:
        0 when done, 1 when the command failed, 2 when it was used wrongly, 130 when interrupted,
        141 when the reader of its output has gone.
    """
    for number, argument in enumerate(arguments, start=1):
        if re.fullmatch(r"(--[\w-]+=)?\s*", argument):
            # Such a path would be the working directory.
            print(f"irmas: argument {number} is empty: is a variable not set?", file=sys.stderr)
            return 2
    try:
        status = app(list(arguments), prog_name="irmas", standalone_mode=False)
    except SystemExit as end:  # With 1, typer and rich end where the reader of the help has gone.
        return 141 if end.code == 1 else int(end.code or 0)
    except OSError as error:  # of the help
        print(f"irmas: standard output: {error.strerror}", file=sys.stderr)
        return 1
    except typer.TyperException as error:
        # Without a command, the help says enough.
        if type(error).__name__ != "NoArgsIsHelpError":
            print(f"irmas: {_as_line(error)}", file=sys.stderr)
        return 2
    return status or 0


def _as_line(error: Any) -> str:
    """Describe an error of the parser, or a `typer.BadParameter`, in one line."""
    message = error.format_message().removeprefix("Invalid value: ").replace("Value error, ", "")
    message = visible(" ".join(message.split()).rstrip("."))
    context = getattr(error, "ctx", None)
    return f"{message} (see {context.command_path if context else 'irmas'} --help)"

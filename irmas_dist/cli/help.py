"""How commands take their options, and ``--help`` shows them, also in a terminal of 80 columns."""

import copy
from pathlib import Path
from typing import Any, get_args

from typer.core import TyperArgument, TyperCommand, TyperGroup

TYPES = {str: "<str>", int: "<int>", float: "<float>", Path: "<path>"}


class HelpfulCommand(TyperCommand):
    """A command whose arguments are in capitals, as the texts of its options name them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument) and parameter.metavar is None:
                parameter.metavar = str(parameter.name).upper()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse a second recipe, which may be thought to be merged with the first."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        if sum("--config" in parameter.opts for parameter in order) > 1:
            ctx.fail("--config is given twice: name one recipe, and change it with --set")
        return TyperCommand.parse_args(self, ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of briefer parameters."""
        TyperCommand.format_help(_with_brief_parameters(self, ctx), ctx, formatter)


class HelpfulGroup(TyperGroup):
    """A group of such commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of briefer parameters."""
        TyperGroup.format_help(_with_brief_parameters(self, ctx), ctx, formatter)


def _with_brief_parameters(command: Any, ctx: Any) -> Any:
    shown = copy.copy(command)
    shown.params = [_brief(parameter) for parameter in command.get_params(ctx)]
    shown.add_help_option = False  # It is among them.
    return shown


def _brief(parameter: Any) -> Any:
    """Return what is shown of a parameter.

    Flags have no type, and ranges are left to the error of a value that is out of them. Choices are
    told in the text, as the narrow column of types would break them inside words.
    """
    shown = copy.copy(parameter)
    shown.min = shown.max = None
    annotation = parameter.type_descriptor.annotation
    if isinstance(parameter, TyperArgument):
        if elements := get_args(annotation):  # The line of usage tells that there may be several.
            shown.display_type = lambda ctx: TYPES[elements[0]]
        return shown
    if isinstance(parameter.show_default, str):  # It would be in parentheses.
        shown.default, shown.show_default = parameter.show_default, True
    if parameter.is_flag:
        shown.metavar = ""
    elif choices := parameter.type_descriptor.choices:
        shown.metavar = "<choice>"
        values = ", ".join(str(getattr(choice, "value", choice)) for choice in choices)
        shown.help = f"{parameter.help} One of: {values}."
    elif parameter.metavar is None:
        shown.metavar = TYPES[(get_args(annotation) or (annotation,))[0]]
    return shown

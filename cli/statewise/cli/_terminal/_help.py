"""Shows options in help, where a flag names no value, and explains words that no option takes."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from typer.core import TyperCommand, TyperGroup

_R = TypeVar("_R")


class Command(TyperCommand):
    """A subcommand."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = _without_line_breaks(self.help)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the words; those left over fail, with advice if an option can be repeated."""
        ctx.allow_extra_args = True
        rest: list[str] = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            repeated = [option for option in self.params if getattr(option, "multiple", False)]
            advice = "".join(map(_advice_to_repeat, repeated[:1]))
            shown = " ".join(rest[:3]) + (" …" if len(rest) > 3 else "")
            ctx.fail(f"expected options only; got {shown}{advice}")
        return rest

    def get_params(self, ctx: Any) -> Any:
        """Returns all parameters, that of --help included."""
        return _without_types_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """A command with subcommands."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = _without_line_breaks(self.help)

    def get_params(self, ctx: Any) -> Any:
        """Returns all parameters, that of --help included."""
        return _without_types_of_flags(super().get_params(ctx))


class ListingGroup(Group):
    """A command that lists by itself, and has subcommands: its options are those of the listing."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the subcommand. Options before it fail: it would not read them; so does any other word."""
        for parameter in self.params:
            source = ctx.get_parameter_source(parameter.name)
            if source is not None and source.name == "COMMANDLINE" and not ctx.resilient_parsing:
                ctx.fail(f"expected options of {args[0]} after it; got {parameter.opts[0]} before it")
        if args[0] not in self.commands and not ctx.resilient_parsing:
            calls = " or ".join(f"`{ctx.command_path} {name} {args[0]}`" for name in self.commands)
            ctx.fail(f"expected options or a subcommand; got {args[0]!r}; perhaps you mean {calls}")
        return super().resolve_command(ctx, args)


def unless_subcommand(listing: Callable[..., _R]) -> Callable[..., _R | None]:
    """Decorates the listing of a `ListingGroup`: where a subcommand is called, it does nothing.

    Args:
        listing: A command with a parameter `ctx`, typer's context.
    """

    @functools.wraps(listing)
    def listed(**arguments: Any) -> _R | None:
        return listing(**arguments) if arguments["ctx"].invoked_subcommand is None else None

    return listed


def _without_line_breaks(text: str | None) -> str | None:
    """Joins the lines of each paragraph, which the terminal's width breaks again; indented ones stay."""
    if text is None:
        return None
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        paragraph if paragraph.startswith(" ") else " ".join(paragraph.split("\n"))
        for paragraph in paragraphs
    )


def _without_types_of_flags(parameters: list[Any]) -> list[Any]:
    """Removes `<bool>`, which would read as a value that the user has to type."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) or getattr(parameter, "is_bool_flag", False):
            parameter.metavar = ""
    return parameters


def _advice_to_repeat(option: Any) -> str:
    name = option.opts[0]
    pattern = f", or quote a pattern: {name} '*.…'" if option.metavar == "FILE" else ""
    return f"; repeat {name} for each word{pattern}"

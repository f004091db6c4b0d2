"""Shows options in help, where a flag names no value, and explains words that no option takes."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A subcommand."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the words; those left over fail, with advice if an option can be repeated."""
        ctx.allow_extra_args = True
        rest: list[str] = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            repeated = [option.opts[0] for option in self.params if getattr(option, "multiple", False)]
            advice = "".join(
                f"; repeat {name} for each word, or quote a pattern: {name} '*.…'" for name in repeated[:1]
            )
            shown = " ".join(rest[:3]) + (" …" if len(rest) > 3 else "")
            ctx.fail(f"expected options only; got {shown}{advice}")
        return rest

    def get_params(self, ctx: Any) -> Any:
        """Returns all parameters, that of --help included."""
        return _without_types_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """A command with subcommands."""

    def get_params(self, ctx: Any) -> Any:
        """Returns all parameters, that of --help included."""
        return _without_types_of_flags(super().get_params(ctx))


def _without_types_of_flags(parameters: list[Any]) -> list[Any]:
    """Removes `<bool>`, which would read as a value that the user has to type."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) or getattr(parameter, "is_bool_flag", False):
            parameter.metavar = ""
    return parameters

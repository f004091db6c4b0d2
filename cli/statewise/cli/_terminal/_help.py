"""Shows options in help: a flag takes no value, so none is named beside it."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A subcommand."""

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

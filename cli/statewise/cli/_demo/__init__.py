"""Holds `statewise demo`, and the child processes in which it runs other subcommands.

Never holds training, export or serving: the demo runs the subcommands and the client library.
"""

from statewise.cli._demo._command import demo

__all__ = ["demo"]

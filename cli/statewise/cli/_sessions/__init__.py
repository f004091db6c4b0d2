"""Holds `statewise sessions`: the listing, and `show`, which describes one session."""

from statewise.cli._sessions._command import app

__all__ = ["app"]

"""Holds `statewise states`: writes the states of many sessions as a table or an archive."""

from statewise.cli._states._command import states

__all__ = ["states"]

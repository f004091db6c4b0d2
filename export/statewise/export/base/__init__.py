"""Defines errors and the limits of what a file may make a process do; knows no package and no network."""

from statewise.export.base._errors import (
    ExportError,
    PackageError,
    SourceError,
    UnsupportedNetwork,
    VersionExists,
)
from statewise.export.base._limits import limited_run, refuse_bombs, refuse_giants

__all__ = [
    "ExportError",
    "PackageError",
    "SourceError",
    "UnsupportedNetwork",
    "VersionExists",
    "limited_run",
    "refuse_bombs",
    "refuse_giants",
]

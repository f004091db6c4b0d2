"""Defines errors, limits of untrusted files and the array type; knows no package and no network."""

from statewise.export.base._errors import (
    ExportError,
    PackageError,
    SourceError,
    UnsupportedNetwork,
    VersionExists,
)
from statewise.export.base._file_formats import is_safetensors, refuse_other_formats
from statewise.export.base._limits import (
    OPTIMISATION_LEVELS,
    refuse_expansion,
    refuse_large_tensors,
    run_options,
)
from statewise.export.base._types import Array

__all__ = [
    "OPTIMISATION_LEVELS",
    "Array",
    "ExportError",
    "PackageError",
    "SourceError",
    "UnsupportedNetwork",
    "VersionExists",
    "is_safetensors",
    "refuse_expansion",
    "refuse_large_tensors",
    "refuse_other_formats",
    "run_options",
]

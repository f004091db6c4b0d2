"""ONNX model packages: made from trained networks, read back, verified.

Not training (statewise.models) and not serving (statewise.service). Whatever is exported here computes what
`Checkpoint.predict` computes in NumPy, within 1e-5 of its scale; `verify_package` shows it.
"""

from statewise.export._publishing import export_checkpoint, import_onnx, import_torch
from statewise.export.base import (
    ExportError,
    PackageError,
    SourceError,
    UnsupportedNetwork,
    VersionExists,
)
from statewise.export.graphs import Weights
from statewise.export.package import Package, read_package
from statewise.export.verification import Check, Exactness, VerifyReport, verify_package

__all__ = [
    "Check",
    "Exactness",
    "ExportError",
    "Package",
    "PackageError",
    "SourceError",
    "UnsupportedNetwork",
    "VerifyReport",
    "VersionExists",
    "Weights",
    "export_checkpoint",
    "import_onnx",
    "import_torch",
    "read_package",
    "verify_package",
]

"""Makes ONNX model packages from trained networks, reads them and verifies them.

Neither trains (statewise.models) nor serves (statewise.service). An exported package computes what
`Checkpoint.predict` computes in NumPy, within 1e-5 of the largest output; `verify_package` checks it.
"""

from statewise.export._exporting import export_checkpoint
from statewise.export._importing import import_onnx, import_torch
from statewise.export._verifying import verify_package
from statewise.export.base import ExportError, PackageError, SourceError, UnsupportedNetwork, VersionExists
from statewise.export.graphs import Weights
from statewise.export.package import Package, read_package
from statewise.export.verification import Check, VerifyReport
from statewise.wire import Exactness

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

"""ONNX model packages: made from trained networks, read back, verified.

Not training (statewise.models) and not serving (statewise.service). Whatever is exported here computes what
`Checkpoint.predict` computes in NumPy, within 1e-5 of its scale; `verify_package` shows it.
"""

from statewise.export._errors import ExportError, PackageError, SourceError, UnsupportedNetwork, VersionExists
from statewise.export._package import Package, read_package
from statewise.export._publish import export_checkpoint, import_onnx, import_torch
from statewise.export._report import Check, Exactness, VerifyReport
from statewise.export._verify import verify_package
from statewise.export._weights import Weights

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

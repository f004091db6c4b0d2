"""Verifies packages in a child process, because a graph can crash onnxruntime."""

from pathlib import Path

from statewise.export._isolating import with_some_optimisation
from statewise.export.package import read_package
from statewise.export.verification import Check, VerifyReport, verify
from statewise.models import Checkpoint, load_checkpoint


def verify_package(
    path: Path | str, *, checkpoint: Checkpoint | Path | str | None = None, seed: int = 0
) -> VerifyReport:
    """Verifies a package.

    Args:
        path: `<repository>/<name>/<version>`, or a lone .onnx file.
        checkpoint: The reference in NumPy: a checkpoint or its folder. None: the network is rebuilt from the
            graph's constants.
        seed: Of the random inputs.

    Raises:
        PackageError: no package, no ONNX file, no metadata, or a graph that onnxruntime cannot load or run.
    """
    path = Path(path)
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(Path(checkpoint))
    return with_some_optimisation(_verify, path, checkpoint, seed)


def _verify(path: Path, checkpoint: Checkpoint | None, seed: int, optimisation: str) -> VerifyReport:
    report = verify(read_package(path, optimisation=optimisation), checkpoint, seed)
    if optimisation == "all":
        return report
    found = f"onnxruntime crashes at its highest level of optimisation; it runs at {optimisation!r}"
    return VerifyReport(
        report.package, (Check("optimisation", True, found), *report.checks), report.exactness
    )

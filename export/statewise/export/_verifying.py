"""Verifies packages in a child process, because a graph can crash onnxruntime."""

from dataclasses import replace
from pathlib import Path

from statewise.export._isolating import with_some_optimisation
from statewise.export.onnx_import import read_declared
from statewise.export.package import declares_all_beside_graph, read_package
from statewise.export.verification import Check, VerifyReport, verify
from statewise.models import Checkpoint, load_checkpoint


def verify_package(
    path: Path | str, *, checkpoint: Checkpoint | Path | str | None = None, seed: int = 0
) -> VerifyReport:
    """Verifies a package.

    Args:
        path: `<repository>/<name>/<version>`, or a single .onnx file.
        checkpoint: The reference in NumPy: a checkpoint or its folder. None: the network is rebuilt from the
            graph's constants.
        seed: Seed of the random inputs.

    Raises:
        PackageError: no package, no ONNX file, neither metadata nor model.toml, or a graph that onnxruntime
        cannot
            load or run.
        SourceError: a graph that does not run as model.toml declares.
    """
    path = Path(path)
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(Path(checkpoint))
    return with_some_optimisation(_verify, path, checkpoint, seed)


def _verify(path: Path, checkpoint: Checkpoint | None, seed: int, optimisation: str) -> VerifyReport:
    first = []
    if optimisation != "all":
        found = f"onnxruntime crashes at its highest level of optimisation; it runs at {optimisation!r}"
        first.append(Check("optimisation", True, found))
    if not declares_all_beside_graph(path):
        report = verify(read_package(path, optimisation=optimisation), checkpoint, seed)
        return replace(report, checks=(*first, *report.checks))
    imported = read_declared(path, optimisation)
    first.append(Check("as model.toml declares = the file alone", True, "; ".join(imported.reasons)))
    if imported.withdrawn_sessions:
        found = "results depend on how they are run: sessions would give other results than Predict"
        first.append(Check("step by step = whole", False, found))
    report = verify(imported.package, checkpoint, seed)
    return replace(report, package=path, checks=(*first, *report.checks))

"""Verification: does a package do what it says, and what the network it came from does?

Every graph is compared with NumPy, with itself in pieces, and with itself among neighbours; inputs are drawn
from a seeded generator, so a verification repeated is the same verification.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from statewise.export.base import PackageError
from statewise.export.graphs import IR_VERSION, OPSET
from statewise.export.package import (
    ENCODE_GRAPH,
    READ_GRAPH,
    WRITE_GRAPH,
    Package,
    check_graph,
    metadata_problems,
    read_package,
)
from statewise.export.verification._checkpoint_recovery import recover_checkpoint
from statewise.export.verification._differences import batch_difference, difference, run, step_difference
from statewise.export.verification._generation_checks import (
    check_encoder,
    check_generation,
    draw_generation,
    encoder_difference,
    encoder_sample,
    generation_differences,
)
from statewise.export.verification._graph_runners import ReadGraph
from statewise.export.verification._random_batch import Sample, draw_sample
from statewise.export.verification._report import Check, Exactness, VerifyReport
from statewise.models import Checkpoint, load_checkpoint

Array = NDArray[Any]

BOUND = 1e-5
"""Largest difference allowed, relative to the largest output of the reference."""


def verify_package(
    path: Path | str, *, checkpoint: Checkpoint | Path | str | None = None, seed: int = 0
) -> VerifyReport:
    """Checks a package.

    Args:
        path: `<repository>/<name>/<version>`, or a lone .onnx file.
        checkpoint: What NumPy computes with: a checkpoint or its folder. None: the network is rebuilt from
            the graph's own constants.
        seed: Of the inputs drawn.

    Raises:
        PackageError: there is nothing to check: no package, no ONNX file, no metadata, or a graph that
            onnxruntime cannot load or run.
    """
    package = read_package(path)
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(Path(checkpoint))

    checks = [
        *(_check_onnx(package, file) for file in package.files),
        _check_versions(package),
        _check_metadata(package),
    ]
    if not all(check.passed for check in checks):
        return VerifyReport(package.path, tuple(checks), None)
    if checkpoint is None and package.network is not None:
        checkpoint = recover_checkpoint(package)
    if checkpoint is not None and checkpoint.network.spec != package.network:
        found = "the checkpoint is of another network than the package"
        checks.append(Check("NumPy = onnxruntime", False, found))
        checkpoint = None
    sample = draw_sample(package.spec, checkpoint, np.random.default_rng(seed))
    if checkpoint is not None:
        checks += _check_numpy(checkpoint, package, sample, seed)
    bits, exactness = _check_bits(package, sample, seed)
    return VerifyReport(package.path, (*checks, *bits), exactness)


def _check_onnx(package: Package, file: str) -> Check:
    name = "ONNX checker" if file == READ_GRAPH else f"ONNX checker, {file}"
    try:
        check_graph(package.path, package.files[file].model)
    except PackageError as error:
        return Check(name, False, str(error))
    return Check(name, True, f"{len(package.files[file].model.graph.node)} nodes")


def _check_versions(package: Package) -> Check:
    found = sorted({_versions(file.model) for file in package.files.values()})
    text = ", ".join(f"opset {opset}, IR {ir}" for opset, ir in found)
    passed = all(opset >= OPSET and ir >= IR_VERSION for opset, ir in found)
    return Check(
        "versions", passed, text if passed else f"expected opset {OPSET}, IR {IR_VERSION}; got {text}"
    )


def _versions(model: onnx.ModelProto) -> tuple[int, int]:
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(opsets, default=0), model.ir_version


def _check_metadata(package: Package) -> Check:
    problems = metadata_problems(package)
    spec = package.spec
    found = f"{', '.join(spec.call_shapes)}; {'streamable' if spec.streamable else 'no sessions'}"
    if spec.generate is not None:
        found += ", generative"
    return Check("metadata", not problems, "; ".join(problems) or found)


def _check_numpy(checkpoint: Checkpoint, package: Package, sample: Sample, seed: int) -> list[Check]:
    whole = run(ReadGraph(package), sample)
    x = sample.x if sample.per_step_input else sample.x[None]
    y, state = checkpoint.predict(x, sample.lengths, sample.state)
    differences = [("NumPy = onnxruntime", difference(sample.valid(y), sample.valid(whole.y)))]
    if state is not None and whole.state is not None:
        differences.append(("NumPy = onnxruntime, state", difference(state, whole.state)))
    longest = max(sample.lengths)
    rows = f"{len(sample.lengths)} rows of {'one step' if longest == 1 else f'1 to {longest} steps'}"
    checks = [Check(name, value < BOUND, rows, value, BOUND) for name, value in differences]
    if ENCODE_GRAPH in package.files:
        sources = encoder_sample(package, np.random.default_rng(seed))
        checks += check_encoder(checkpoint, package, sources, bound=BOUND)
    if WRITE_GRAPH in package.files:
        checks += check_generation(checkpoint, package, np.random.default_rng(seed), bound=BOUND)
    return checks


def _check_bits(package: Package, sample: Sample, seed: int) -> tuple[list[Check], Exactness]:
    found = _bit_differences(package, sample, seed, least_rows=1)
    remark = ""
    if any(found.values()):
        # The one-row path of a matrix product may be all that differs.
        filled = _bit_differences(package, sample, seed, least_rows=2)
        if not any(filled.values()):
            found, remark = filled, ", where a lone row is run as two"
    checks = [
        Check(name, value < BOUND, _likeness(value) + remark, value, BOUND) for name, value in found.items()
    ]
    if not any(found.values()):
        return checks, Exactness.EXACT
    return checks, Exactness.TOLERANCE if max(found.values()) < BOUND else Exactness.UNSAFE


def _bit_differences(package: Package, sample: Sample, seed: int, *, least_rows: int) -> dict[str, float]:
    graphs = [ReadGraph(package, threads=threads, least_rows=least_rows) for threads in (1, 2)]
    differences = {}
    if package.spec.streamable:
        differences["step by step = whole"] = step_difference(graphs[0], sample)
    differences["alone = batched"] = batch_difference(graphs, sample)
    rng = np.random.default_rng(seed)
    if ENCODE_GRAPH in package.files:
        sources = encoder_sample(package, rng)
        differences["encode alone = batched"] = encoder_difference(package, sources, least_rows=least_rows)
    if package.spec.generate is not None and WRITE_GRAPH in package.files:
        state, draw = draw_generation(package, package.spec.generate, rng)
        differences |= generation_differences(package, state, draw, least_rows=least_rows)
    return differences


def _likeness(value: float) -> str:
    if value == 0:
        return "bit for bit"
    return "the same within rounding" if value < BOUND else "results depend on how they are run"

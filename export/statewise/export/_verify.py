"""Verification: does a package do what it says, and what the network it came from does?

The graph is compared with NumPy, with itself step by step, and with itself among neighbours; inputs are drawn
from a seeded generator, so a verification repeated is the same verification.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from statewise.export._builder import IR_VERSION, OPSET
from statewise.export._errors import PackageError
from statewise.export._package import Package, metadata_problems, read_package
from statewise.export._recover import recover_checkpoint
from statewise.export._report import Check, Exactness, VerifyReport
from statewise.export._runtime import ReadGraph, first_line
from statewise.export._sample import Sample, draw_sample
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
        PackageError: there is nothing to check: no package, no ONNX file, no metadata.
    """
    package = read_package(path)
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(Path(checkpoint))

    checks = [_check_onnx(package), _check_versions(package), _check_metadata(package)]
    if not all(check.passed for check in checks):
        return VerifyReport(package.path, tuple(checks), None)
    try:
        graph = ReadGraph(package.content, package.spec, path=package.path)
    except PackageError as error:
        checks.append(Check("loads in onnxruntime", False, str(error)))
        return VerifyReport(package.path, tuple(checks), None)

    if checkpoint is None and package.network is not None:
        checkpoint = recover_checkpoint(package)
    sample = draw_sample(package.spec, checkpoint, np.random.default_rng(seed))
    whole = _run(graph, sample)
    if checkpoint is not None:
        checks += _check_numpy(checkpoint, sample, whole)
    comparisons = []
    if package.spec.streamable:
        comparisons.append(("step by step = whole", _step_difference(graph, sample, whole)))
    two_threads = ReadGraph(package.content, package.spec, path=package.path, threads=2)
    comparisons.append(("alone = batched", _batch_difference([graph, two_threads], sample)))
    checks += [_check_bits(name, difference) for name, difference in comparisons]
    return VerifyReport(
        package.path, tuple(checks), _exactness([difference for _, difference in comparisons])
    )


_OTHER_BITS = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class _Outcome:
    """y [T, B, O] or [B, O], and the state after it."""

    y: Array
    state: Array | None


def _run(graph: ReadGraph, sample: Sample) -> _Outcome:
    y, state = graph.run(sample.x, sample.lengths, sample.state)
    return _Outcome(y, state)


def _difference(reference: Array, found: Array) -> float:
    """Largest difference relative to the largest reference; infinite for what is no number."""
    if reference.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    if reference.tobytes() == found.tobytes():
        return 0.0
    scale = float(np.abs(reference).max()) or 1.0
    # Zeros of different sign are other bits, though no other number.
    return max(float(np.abs(reference.astype(np.float64) - found).max()) / scale, _OTHER_BITS)


def _check_onnx(package: Package) -> Check:
    try:
        onnx.checker.check_model(package.content, full_check=True)
    except Exception as error:
        # The checker raises its own error, the shape inference it calls another.
        return Check("ONNX checker", False, first_line(error))
    return Check("ONNX checker", True, f"{len(package.model.graph.node)} nodes")


def _check_versions(package: Package) -> Check:
    opset = max(
        (entry.version for entry in package.model.opset_import if entry.domain in ("", "ai.onnx")), default=0
    )
    found = f"opset {opset}, IR {package.model.ir_version}"
    passed = opset >= OPSET and package.model.ir_version >= IR_VERSION
    return Check(
        "versions", passed, found if passed else f"expected opset {OPSET}, IR {IR_VERSION}; got {found}"
    )


def _check_metadata(package: Package) -> Check:
    problems = metadata_problems(package)
    spec = package.spec
    found = f"{', '.join(spec.call_shapes)}; {'streamable' if spec.streamable else 'no sessions'}"
    return Check("metadata", not problems, "; ".join(problems) or found)


def _check_numpy(checkpoint: Checkpoint, sample: Sample, whole: _Outcome) -> list[Check]:
    x = sample.x if sample.per_step_input else sample.x[None]
    y, state = checkpoint.predict(x, sample.lengths, sample.state)
    differences = [("NumPy = onnxruntime", _difference(sample.valid(y), sample.valid(whole.y)))]
    if state is not None and whole.state is not None:
        differences.append(("NumPy = onnxruntime, state", _difference(state, whole.state)))
    rows = f"{len(sample.lengths)} rows of 1 to {max(sample.lengths)} steps"
    return [Check(name, value < BOUND, rows, value, BOUND) for name, value in differences]


def _step_difference(graph: ReadGraph, sample: Sample, whole: _Outcome) -> float:
    """Largest difference between the longest row in one run, and the same row in a run a step."""
    index = int(np.argmax(sample.lengths))
    assert whole.state is not None, "called for streamable graphs"
    state = sample.row(index).state
    outputs = []
    for step in range(int(sample.lengths[index])):
        y, state = graph.run(sample.x[step : step + 1, index : index + 1], np.array([1]), state)
        outputs.append(y)
    stepped = np.concatenate(outputs)[:, 0] if sample.per_step_output else outputs[-1][0]
    expected = whole.y[: len(outputs), index] if sample.per_step_output else whole.y[index]
    assert state is not None, "a streamable graph returns its state"
    return max(_difference(expected, stepped), _difference(whole.state[index], state[0]))


def _batch_difference(graphs: list[ReadGraph], sample: Sample) -> float:
    """Largest difference of a row alone to itself in batches: of other sizes, neighbours, places, threads."""
    rows = len(sample.lengths)
    worst = 0.0
    for index in range(rows):
        alone = _run(graphs[0], sample.row(index))
        for size in (2, 3, rows):
            place = index % size
            members = [(index + 1 + offset) % rows for offset in range(size - 1)]
            members.insert(place, index)
            batch = sample.rows(members, loud_except=index)
            for graph in graphs:
                worst = max(worst, _row_difference(sample, index, alone, place, _run(graph, batch)))
    return worst


def _row_difference(sample: Sample, index: int, alone: _Outcome, place: int, batched: _Outcome) -> float:
    steps = int(sample.lengths[index])
    if sample.per_step_output:
        worst = _difference(alone.y[:, 0], batched.y[:steps, place])
    else:
        worst = _difference(alone.y[0], batched.y[place])
    if alone.state is not None and batched.state is not None:
        worst = max(worst, _difference(alone.state[0], batched.state[place]))
    return worst


def _check_bits(name: str, difference: float) -> Check:
    detail = "bit for bit" if difference == 0 else "the same within rounding"
    if difference >= BOUND:
        detail = "results depend on how they are run"
    return Check(name, difference < BOUND, detail, difference, BOUND)


def _exactness(differences: list[float]) -> Exactness:
    if max(differences) == 0:
        return Exactness.EXACT
    return Exactness.TOLERANCE if max(differences) < BOUND else Exactness.UNSAFE

"""Verifies a package: compares graphs with their metadata, with NumPy, and with themselves.

A graph is compared with itself in chunks and at once, alone and beside other rows. Inputs are drawn from a
seeded generator, so repeating a verification gives the same report.
"""

from dataclasses import replace

import numpy as np
import onnx

from statewise.export.base import PackageError
from statewise.export.graphs import IR_VERSION, OPSET
from statewise.export.package import (
    ENCODER_GRAPH,
    GENERATOR_GRAPH,
    READ_GRAPH,
    Package,
    check_graph,
    metadata_problems,
)
from statewise.export.verification._checkpoint_recovery import recover_checkpoint
from statewise.export.verification._differences import (
    batch_difference,
    relative_difference,
    run_batch,
    step_difference,
)
from statewise.export.verification._finite_results import results_without_numbers, with_finite_results
from statewise.export.verification._generation_checks import (
    check_encoder,
    check_generation,
    draw_encoder_batch,
    draw_generator_feed,
    encoder_difference,
    generation_differences,
)
from statewise.export.verification._graph_runners import ReadGraphRunner
from statewise.export.verification._random_batch import RandomBatch, draw_batch
from statewise.export.verification._report import Check, VerifyReport
from statewise.models import Checkpoint
from statewise.wire import Exactness, ModelSpec

BOUND = 1e-5
"""Upper limit of differences, relative to the largest number of the reference; the limit itself fails."""

_HALF_BOUND = 4e-3  # of models whose outputs or states are float16, four units in their last place


def spec_bound(spec: ModelSpec) -> float:
    """Returns the upper limit of differences of a model."""
    types = {tensor.dtype for tensor in spec.outputs} | {pair.dtype for pair in spec.state}
    return _HALF_BOUND if "float16" in types else BOUND


def verify(package: Package, checkpoint: Checkpoint | None, seed: int) -> VerifyReport:
    """Verifies a package in this process.

    Args:
        package: The package.
        checkpoint: The reference in NumPy. None: the network is rebuilt from the graph's constants.
        seed: Seed of the random inputs.

    Raises:
        PackageError: a graph that onnxruntime cannot load or run.
    """
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
    graph = ReadGraphRunner(package)
    batch = draw_batch(package.spec, checkpoint, np.random.default_rng(seed))
    batch = with_finite_results(graph, batch)
    result = run_batch(graph, batch)
    if missing := results_without_numbers(batch, result):
        found = f"{', '.join(missing)}: NaN for all inputs that were drawn, so nothing could be compared"
        checks.append(Check("results are numbers", False, found))
    if checkpoint is None and batch.state:
        # States that a session can be in: those after some steps.
        batch = replace(batch, state=result.state)
    if checkpoint is not None:
        checks += _check_numpy(checkpoint, package, batch, seed)
    own_checks, exactness = _check_against_itself(package, batch, seed)
    return VerifyReport(package.path, (*checks, *own_checks), exactness)


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


def _check_numpy(checkpoint: Checkpoint, package: Package, batch: RandomBatch, seed: int) -> list[Check]:
    whole = run_batch(ReadGraphRunner(package), batch)
    x = batch.x if package.spec.inputs[0].per_step else batch.x[None]
    y, state = checkpoint.predict(x, batch.lengths, batch.state[0] if batch.state else None)
    outputs = (batch.valid(0, y), batch.valid(0, whole.outputs[0]))
    differences = [("NumPy = onnxruntime", relative_difference(*outputs))]
    if state is not None and whole.state:
        differences.append(("NumPy = onnxruntime, state", relative_difference(state, whole.state[0])))
    longest = max(batch.lengths)
    rows = f"{len(batch.lengths)} rows of {'one step' if longest == 1 else f'1 to {longest} steps'}"
    checks = [Check(name, value < BOUND, rows, value, BOUND) for name, value in differences]
    if package.spec.state and checkpoint.network.spec.learn_initial_state:
        checks.append(_check_initial_state(checkpoint, package))
    if ENCODER_GRAPH in package.files:
        sources = draw_encoder_batch(package, np.random.default_rng(seed))
        checks += check_encoder(checkpoint, package, sources, bound=BOUND)
    if GENERATOR_GRAPH in package.files:
        checks += check_generation(checkpoint, package, np.random.default_rng(seed), bound=BOUND)
    return checks


def _check_initial_state(checkpoint: Checkpoint, package: Package) -> Check:
    learned = checkpoint.network.initial_state.astype(np.float32)
    same = np.array_equal(learned, package.spec.state[0].initial_state())
    found = "as it was learned" if same else "the metadata has other numbers than the network"
    return Check("initial state", same, f"{learned.size} numbers, {found}")


def _check_against_itself(package: Package, batch: RandomBatch, seed: int) -> tuple[list[Check], Exactness]:
    found = _own_differences(package, batch, seed, least_rows=1)
    remark = ""
    if any(found.values()):
        # The only cause may be that a matrix product of one row takes another path.
        filled = _own_differences(package, batch, seed, least_rows=2)
        if not any(filled.values()):
            found, remark = filled, ", where a single row is run as two"
    bound = spec_bound(package.spec)
    checks = [
        Check(name, value < bound, _describe(value, bound) + remark, value, bound)
        for name, value in found.items()
    ]
    if not any(found.values()):
        return checks, Exactness.EXACT
    return checks, Exactness.TOLERANCE if max(found.values()) < bound else Exactness.UNSAFE


def _own_differences(package: Package, batch: RandomBatch, seed: int, *, least_rows: int) -> dict[str, float]:
    graphs = [ReadGraphRunner(package, threads=threads, least_rows=least_rows) for threads in (1, 2)]
    differences = {}
    if package.spec.streamable:
        differences["step by step = whole"] = step_difference(graphs[0], batch)
    differences["alone = batched"] = batch_difference(graphs, batch)
    rng = np.random.default_rng(seed)
    if ENCODER_GRAPH in package.files:
        sources = draw_encoder_batch(package, rng)
        differences["encode alone = batched"] = encoder_difference(package, sources, least_rows=least_rows)
    if package.spec.generate is not None and GENERATOR_GRAPH in package.files:
        state, feed = draw_generator_feed(package, package.spec.generate, rng)
        differences |= generation_differences(package, state, feed, least_rows=least_rows)
    return differences


def _describe(value: float, bound: float) -> str:
    if value == 0:
        return "bit for bit"
    return "the same within rounding" if value < bound else "results depend on how they are run"

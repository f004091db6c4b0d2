"""Limits what an ONNX file may make this process do: how far it expands, what it allocates, how long it runs.

Not a sandbox. The limits protect a process that only inspects files: from functions that call each other into
millions of nodes, from constants of terabytes and from loops without end.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

import onnx
import onnxruntime

from statewise.export.base._errors import PackageError

MAX_NODES = 1_000_000
MAX_ELEMENTS = 2**31 - 1
RUN_LIMIT_S = 120.0

OPTIMISATION_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
"""onnxruntime's levels of optimising a graph, highest first. Some graphs crash it at the highest one."""


def refuse_expansion(path: Path, model: onnx.ModelProto) -> None:
    """Refuses a graph that is much larger than its file.

    Raises:
        PackageError: more than MAX_NODES once functions are expanded, functions that call themselves, or a
            constant of more than MAX_ELEMENTS.
    """
    functions = {(entry.domain, entry.name): entry.node for entry in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def count(nodes: Sequence[onnx.NodeProto], callers: frozenset[tuple[str, str]]) -> int:
        total = 0
        for node in nodes:
            total += 1 + sum(count(body.node, callers) for body in _bodies(node))
            key = (node.domain, node.op_type)
            if key in functions:
                if key in callers:
                    raise PackageError(
                        path, f"expected functions that do not call themselves; {key[1]!r} does"
                    )
                if key not in sizes:
                    sizes[key] = count(functions[key], callers | {key})
                total += sizes[key]
            if total > MAX_NODES:
                raise PackageError(path, f"expected at most {MAX_NODES:,} nodes; the graph expands to more")
        return total

    count(model.graph.node, frozenset())
    for tensor in model.graph.initializer:
        _refuse_large_tensor(path, tensor.name, list(tensor.dims))


def refuse_large_tensors(path: Path, inferred: onnx.ModelProto) -> None:
    """Refuses a graph with a tensor of more than MAX_ELEMENTS, free sizes counted as 1.

    Args:
        path: Named in errors.
        inferred: The model with inferred shapes.

    Raises:
        PackageError: naming the tensor and its size.
    """
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        sizes = [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
        _refuse_large_tensor(path, value.name, sizes)


@contextmanager
def run_options(limit_s: float = RUN_LIMIT_S) -> Iterator[onnxruntime.RunOptions]:
    """Returns run options for onnxruntime that end a run with an error after `limit_s` seconds."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4

    def stop() -> None:
        options.terminate = True

    timer = threading.Timer(limit_s, stop)
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yields the bodies of a node's loops and branches."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _refuse_large_tensor(path: Path, name: str, shape: list[int]) -> None:
    if not 0 <= prod(shape) <= MAX_ELEMENTS:
        raise PackageError(path, f"{name!r}: expected at most {MAX_ELEMENTS:,} elements; got shape {shape}")

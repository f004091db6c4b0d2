"""What a file may make this process do: how much it may expand, allocate and run.

Not a sandbox. It stops what a small file can do to a process that only wants to look at it: functions that
call each other into millions of nodes, constants of terabytes, loops without end.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from statewise.export.base._errors import PackageError

MAX_NODES = 1_000_000
MAX_ELEMENTS = 2**31 - 1
RUN_LIMIT_S = 120.0


def refuse_bombs(path: Path, model: onnx.ModelProto) -> None:
    """Refuses a graph that is much larger than its file.

    Raises:
        PackageError: more than MAX_NODES once functions are expanded, functions that call themselves, or a
            tensor of more than MAX_ELEMENTS.
    """
    functions = {(entry.domain, entry.name): entry.node for entry in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def count(nodes: Sequence[onnx.NodeProto], within: frozenset[tuple[str, str]]) -> int:
        total = 0
        for node in nodes:
            total += 1 + sum(count(body.node, within) for body in bodies(node))
            key = (node.domain, node.op_type)
            if key in functions:
                if key in within:
                    raise PackageError(
                        path, f"expected functions that do not call themselves; {key[1]!r} does"
                    )
                if key not in sizes:
                    sizes[key] = count(functions[key], within | {key})
                total += sizes[key]
            if total > MAX_NODES:
                raise PackageError(path, f"expected at most {MAX_NODES:,} nodes; the graph expands to more")
        return total

    count(model.graph.node, frozenset())
    for tensor in model.graph.initializer:
        _refuse_giant(path, tensor.name, list(tensor.dims))


def refuse_giants(path: Path, inferred: onnx.ModelProto) -> None:
    """Refuses a graph some tensor of which is known to be too large; needs inferred shapes.

    Raises:
        PackageError: naming the tensor and its size.
    """
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        _refuse_giant(path, value.name, [size.dim_value or 1 for size in value.type.tensor_type.shape.dim])


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a node's loops and branches."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


@contextmanager
def limited_run(limit_s: float = RUN_LIMIT_S) -> Iterator[Any]:
    """Run options for onnxruntime, with which a run ends in an error when the time is over."""
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


def _refuse_giant(path: Path, name: str, dims: list[int]) -> None:
    elements = 1
    for size in dims:
        elements *= size
    if not 0 <= elements <= MAX_ELEMENTS:
        raise PackageError(path, f"{name!r}: expected at most {MAX_ELEMENTS:,} elements; got shape {dims}")

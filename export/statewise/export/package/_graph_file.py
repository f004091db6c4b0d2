"""Reads and checks single .onnx files; executes nothing and opens no other file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from statewise.export.base import PackageError, refuse_expansion, refuse_large_tensors

READ_GRAPH, GENERATOR_GRAPH, ENCODER_GRAPH = "model.onnx", "generate.onnx", "encode.onnx"

_MAX_BYTES = 2**31 - 1  # protobuf's own limit


@dataclass(frozen=True)
class GraphFile:
    """One .onnx file.

    Attributes:
        content: Its bytes.
        model: The same, parsed.
    """

    content: bytes
    model: onnx.ModelProto


def read_graph_file(file: Path, *, package: Path | None = None, weights_outside: bool = False) -> GraphFile:
    """Reads one .onnx file.

    Args:
        file: The file.
        package: The path that errors name; if a folder, the file must lie in it. Default: the file.
        weights_outside: Whether weights may lie in other files, which are not opened.

    Raises:
        PackageError: no such file, no ONNX, weights outside the file, or a graph that expands too far.
    """
    path = file if package is None else package
    content = _read(file, path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise PackageError(path, f"expected an ONNX file; {file.name} cannot be parsed: {error}") from None
    if not model.graph.node:
        raise PackageError(path, f"expected an ONNX file; {file.name} holds no graph")
    if not weights_outside:
        _refuse_external_data(path, model)
    refuse_expansion(path, model)
    return GraphFile(content, model)


def check_graph(path: Path, model: onnx.ModelProto) -> None:
    """Runs the ONNX checker on a model, with inference of types and shapes.

    Raises:
        PackageError: the checker's reason, in one line, or a tensor that is too large.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        # The checker raises its own error, the shape inference it calls another.
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PackageError(path, f"expected a sound ONNX graph: {problem}") from None
    refuse_large_tensors(path, inferred)


def _read(file: Path, path: Path) -> bytes:
    if path.is_dir() and not file.resolve().is_relative_to(path.resolve()):
        raise PackageError(path, f"expected {file.name} in the folder; it is a link to {file.resolve()}")
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise PackageError(
                path, f"expected a file of at most {_MAX_BYTES} bytes; got {file.stat().st_size}"
            )
        return file.read_bytes()
    except OSError as error:
        expected = file.name if path.is_dir() else READ_GRAPH
        problem = f"expected a version folder with {expected}, or an .onnx file; {error.strerror}: {file}"
        raise PackageError(path, problem) from None


def _refuse_external_data(path: Path, model: onnx.ModelProto) -> None:
    for tensor in all_tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            raise PackageError(
                path, f"expected weights inside the file; those of {tensor.name!r} are elsewhere"
            )


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yields every constant of a model, those of functions, loop bodies and branches included."""
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yields every constant of a graph, those of loop bodies and branches included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)

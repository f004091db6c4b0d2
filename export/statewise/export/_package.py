"""Reading a package: the file, what it declares, and whether the two agree.

Nothing is executed here, and no file outside the package is opened: weights live inside the .onnx file.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from statewise.export._errors import PackageError
from statewise.export._metadata import METADATA_KEY, NETWORK_KEY, network_spec
from statewise.models import NetworkSpec
from statewise.wire import MetadataError, ModelSpec, TensorSpec

READ_GRAPH = "model.onnx"

_MAX_BYTES = 2**31 - 1  # protobuf's own limit


@dataclass(frozen=True)
class Package:
    """A read graph and what it declares.

    Attributes:
        path: As asked for: a version folder or a lone .onnx file.
        content: The .onnx file's bytes.
        model: The parsed file.
        spec: What the graph takes, gives and keeps.
        network: The NumPy network it was exported from; None where the file does not say.
    """

    path: Path
    content: bytes
    model: onnx.ModelProto
    spec: ModelSpec
    network: NetworkSpec | None


def read_package(path: Path | str) -> Package:
    """Reads `<repository>/<name>/<version>`, or a lone .onnx file.

    Raises:
        PackageError: no such package, no ONNX file, weights kept outside the file, or no metadata.
    """
    path = Path(path)
    content = _read(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise PackageError(path, f"expected an ONNX file; it cannot be parsed: {error}") from None
    if not model.graph.node:
        raise PackageError(path, "expected an ONNX file; it holds no graph")
    _refuse_external_data(path, model)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in properties:
        raise PackageError(path, f"expected metadata under {METADATA_KEY!r}; the file has none")
    try:
        spec = ModelSpec.from_json(properties[METADATA_KEY])
        network = network_spec(properties[NETWORK_KEY]) if NETWORK_KEY in properties else None
    except (MetadataError, ValueError, TypeError) as error:
        raise PackageError(path, str(error)) from None
    return Package(path, content, model, spec, network)


def metadata_problems(package: Package) -> list[str]:
    """Where graph and metadata disagree, one text a disagreement; empty where they agree."""
    spec, graph = package.spec, package.model.graph
    declared_inputs = {tensor.name: _graph_tensor(tensor) for tensor in spec.inputs}
    declared_outputs = {tensor.name: _graph_tensor(tensor) for tensor in spec.outputs}
    for pair in spec.state:
        sizes: list[int | str] = list(pair.shape)
        sizes.insert(pair.batch_axis, "B")
        declared_inputs[pair.input] = declared_outputs[pair.output] = (pair.dtype, tuple(sizes))
    if spec.lengths is not None:
        declared_inputs[spec.lengths] = ("int32", ("B",))
    return [
        *_differences("input", declared_inputs, {entry.name: _value_info(entry) for entry in graph.input}),
        *_differences("output", declared_outputs, {entry.name: _value_info(entry) for entry in graph.output}),
    ]


_Described = tuple[str, tuple[int | str, ...]]


def _graph_tensor(tensor: TensorSpec) -> _Described:
    axes = ("T", "B") if tensor.per_step else ("B",)
    return tensor.dtype, (*axes, *tensor.shape)


def _value_info(entry: onnx.ValueInfoProto) -> _Described:
    tensor = entry.type.tensor_type
    # "B" and "T" stand for any free size; ONNX does not fix what it is called.
    sizes = tuple(
        size.dim_value if size.HasField("dim_value") else size.dim_param for size in tensor.shape.dim
    )
    if tensor.elem_type == TensorProto.UNDEFINED:
        return "undefined", sizes
    return helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, sizes


def _differences(kind: str, declared: dict[str, _Described], found: dict[str, _Described]) -> list[str]:
    problems = []
    for name in sorted(declared.keys() | found.keys()):
        if name not in found:
            problems.append(f"{kind} {name!r} is declared, but not in the graph")
        elif name not in declared:
            problems.append(f"{kind} {name!r} is in the graph, but not declared")
        elif not _agree(declared[name], found[name]):
            problems.append(f"{kind} {name!r}: declared {_text(declared[name])}, graph {_text(found[name])}")
    return problems


def _agree(declared: _Described, found: _Described) -> bool:
    same_rank = len(declared[1]) == len(found[1])
    return (
        declared[0] == found[0]
        and same_rank
        and all(
            isinstance(actual, str) if isinstance(expected, str) else actual == expected
            for expected, actual in zip(declared[1], found[1], strict=True)
        )
    )


def _text(described: _Described) -> str:
    return f"{described[0]} [{', '.join(map(str, described[1]))}]"


def _read(path: Path) -> bytes:
    file = path / READ_GRAPH if path.is_dir() else path
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise PackageError(
                path, f"expected a file of at most {_MAX_BYTES} bytes; got {file.stat().st_size}"
            )
        return file.read_bytes()
    except OSError as error:
        problem = f"expected a version folder with {READ_GRAPH}, or an .onnx file; {error.strerror}: {file}"
        raise PackageError(path, problem) from None


def _refuse_external_data(path: Path, model: onnx.ModelProto) -> None:
    nodes = [node for function in model.functions for node in function.node]
    for tensor in [*_tensors(model.graph), *_tensors_of_nodes(nodes)]:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise PackageError(
                path, f"expected weights inside the file; those of {tensor.name!r} are elsewhere"
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph, those of loop bodies and branches included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors(graph)

"""Reading a package: its files, what they declare, and whether the two agree.

Nothing is executed here, and no file outside the package is opened: weights live inside the .onnx files.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from statewise.export.base import PackageError, refuse_bombs, refuse_giants
from statewise.export.graphs import NOISE, REMAINING, STOP, TEMPERATURE, TOP_K
from statewise.export.package._metadata import NETWORK_KEY, network_spec
from statewise.models import NetworkSpec
from statewise.wire import METADATA_KEY, EncodeSpec, GenerateSpec, MetadataError, ModelSpec, TensorSpec

READ_GRAPH, WRITE_GRAPH, ENCODE_GRAPH = "model.onnx", "generate.onnx", "encode.onnx"
MODEL_TOML = "model.toml"

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


@dataclass(frozen=True)
class Package:
    """Graphs and what they declare.

    Attributes:
        path: As asked for: a version folder or a lone .onnx file.
        files: By name: model.onnx, and those of generate.onnx and encode.onnx that the package has.
        spec: What the graphs take, give and keep.
        network: The NumPy network they were exported from; None where the file does not say.
    """

    path: Path
    files: Mapping[str, GraphFile]
    spec: ModelSpec
    network: NetworkSpec | None

    @property
    def size_bytes(self) -> int:
        """Of all graphs."""
        return sum(len(file.content) for file in self.files.values())


def read_package(path: Path | str) -> Package:
    """Reads `<repository>/<name>/<version>`, or a lone .onnx file as the read graph of a package.

    Raises:
        PackageError: no such package, no ONNX file, weights kept outside the file, no metadata, or a graph
            that the metadata promises and the folder lacks.
    """
    path = Path(path)
    files = {READ_GRAPH: read_graph_file(path / READ_GRAPH if path.is_dir() else path, asked=path)}
    properties = {entry.key: entry.value for entry in files[READ_GRAPH].model.metadata_props}
    if METADATA_KEY not in properties:
        declared = path.is_dir() and (path / MODEL_TOML).exists()
        raise PackageError(
            path,
            f"expected metadata under {METADATA_KEY!r}; the file has none"
            + (f", and what {MODEL_TOML} declares is tested by the server that loads it" if declared else ""),
        )
    try:
        spec = ModelSpec.from_json(properties[METADATA_KEY])
        network = network_spec(properties[NETWORK_KEY]) if NETWORK_KEY in properties else None
    except (MetadataError, ValueError, TypeError) as error:
        raise PackageError(path, str(error)) from None
    if path.is_dir():
        writes = spec.generate is not None and spec.generate.graph
        for file, declared in ((WRITE_GRAPH, writes), (ENCODE_GRAPH, spec.encode is not None)):
            if declared:
                files[file] = read_graph_file(path / file, asked=path)
    return Package(path, files, spec, network)


def read_graph_file(file: Path, *, asked: Path | None = None) -> GraphFile:
    """Reads one .onnx file, from anywhere.

    Args:
        file: The file.
        asked: Named in errors; default: the file.

    Raises:
        PackageError: no such file, no ONNX, or weights kept outside it.
    """
    path = file if asked is None else asked
    content = _read(file, path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise PackageError(path, f"expected an ONNX file; {file.name} cannot be parsed: {error}") from None
    if not model.graph.node:
        raise PackageError(path, f"expected an ONNX file; {file.name} holds no graph")
    _refuse_external_data(path, model)
    refuse_bombs(path, model)
    return GraphFile(content, model)


def check_graph(path: Path, model: onnx.ModelProto) -> None:
    """Lets the ONNX checker look at a model, types and shapes included.

    Raises:
        PackageError: what it says, in one line.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        # The checker raises its own error, the shape inference it calls another.
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PackageError(path, f"expected a sound ONNX graph: {problem}") from None
    refuse_giants(path, inferred)


def metadata_problems(package: Package) -> list[str]:
    """Where graphs and metadata disagree, one text a disagreement; empty where they agree."""
    spec = package.spec
    problems = _problems(package.files[READ_GRAPH], *_read_tensors(spec))
    if spec.generate is not None and WRITE_GRAPH in package.files:
        found = _problems(package.files[WRITE_GRAPH], *_write_tensors(spec, spec.generate))
        problems += [f"{WRITE_GRAPH}: {problem}" for problem in found]
    if spec.encode is not None and ENCODE_GRAPH in package.files:
        found = _problems(package.files[ENCODE_GRAPH], *_encode_tensors(spec, spec.encode))
        problems += [f"{ENCODE_GRAPH}: {problem}" for problem in found]
    return problems


_Described = tuple[str, tuple[int | str, ...]]


_Tensors = dict[str, _Described]


def _read_tensors(spec: ModelSpec) -> tuple[_Tensors, _Tensors]:
    """Inputs and outputs that the metadata declares."""
    inputs = {tensor.name: _graph_tensor(tensor) for tensor in spec.inputs}
    if spec.lengths is not None:
        inputs[spec.lengths] = ("int32", ("B",))
    outputs = {tensor.name: _graph_tensor(tensor) for tensor in spec.outputs}
    return inputs | _state_tensors(spec, before=True), outputs | _state_tensors(spec, before=False)


def _write_tensors(spec: ModelSpec, generate: GenerateSpec) -> tuple[_Tensors, _Tensors]:
    inputs: _Tensors = {REMAINING: ("int32", ("B",))}
    if generate.sampled:
        inputs |= {NOISE: ("float32", ("N", "B")), TEMPERATURE: ("float32", ("B",))}
        inputs |= {TOP_K: ("int32", ("B",)), STOP: ("int32", ("B",))}
    emitted = generate.emitted
    outputs: _Tensors = {emitted.name: (emitted.dtype, ("N", "B", *emitted.shape))}
    return inputs | _state_tensors(spec, before=True), outputs | _state_tensors(spec, before=False)


def _encode_tensors(spec: ModelSpec, encode: EncodeSpec) -> tuple[_Tensors, _Tensors]:
    inputs = {tensor.name: _graph_tensor(tensor) for tensor in encode.inputs}
    if encode.lengths is not None:
        inputs[encode.lengths] = ("int32", ("B",))
    described = _state_tensors(spec, before=False).values()
    return inputs, dict(zip(encode.state, described, strict=False))


def _state_tensors(spec: ModelSpec, *, before: bool) -> _Tensors:
    tensors: _Tensors = {}
    for pair in spec.state:
        sizes: list[int | str] = list(pair.shape)
        sizes.insert(pair.batch_axis, "B")
        tensors[pair.input if before else pair.output] = (pair.dtype, tuple(sizes))
    return tensors


def _problems(file: GraphFile, inputs: _Tensors, outputs: _Tensors) -> list[str]:
    graph = file.model.graph
    return [
        *_differences("input", inputs, {entry.name: _value_info(entry) for entry in graph.input}),
        *_differences("output", outputs, {entry.name: _value_info(entry) for entry in graph.output}),
    ]


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

"""Compares the signatures of a package's graphs, their inputs and outputs, with its metadata."""

import onnx
from onnx import TensorProto, helper

from statewise.export.graphs import NOISE, REMAINING, STOP, TEMPERATURE, TOP_K
from statewise.export.package._graph_file import ENCODER_GRAPH, GENERATOR_GRAPH, READ_GRAPH, GraphFile
from statewise.export.package._package import Package
from statewise.wire import EncodeSpec, GenerateSpec, ModelSpec, TensorSpec

_TensorType = tuple[str, tuple[int | str, ...]]
"""Element type and sizes; text stands for a free size."""

_TensorTypes = dict[str, _TensorType]


def metadata_problems(package: Package) -> list[str]:
    """Lists the disagreements between graphs and metadata, one text each."""
    spec = package.spec
    problems = _problems(package.files[READ_GRAPH], *_read_signature(spec))
    if spec.generate is not None and GENERATOR_GRAPH in package.files:
        found = _problems(package.files[GENERATOR_GRAPH], *_generator_signature(spec, spec.generate))
        problems += [f"{GENERATOR_GRAPH}: {problem}" for problem in found]
    if spec.encode is not None and ENCODER_GRAPH in package.files:
        found = _problems(package.files[ENCODER_GRAPH], *_encoder_signature(spec, spec.encode))
        problems += [f"{ENCODER_GRAPH}: {problem}" for problem in found]
    return problems


def _read_signature(spec: ModelSpec) -> tuple[_TensorTypes, _TensorTypes]:
    """Returns the inputs and outputs that the metadata declares."""
    inputs = {tensor.name: _declared_type(tensor) for tensor in spec.inputs}
    if spec.lengths is not None:
        inputs[spec.lengths] = ("int32", ("B",))
    outputs = {tensor.name: _declared_type(tensor) for tensor in spec.outputs}
    return inputs | _state_types(spec, before=True), outputs | _state_types(spec, before=False)


def _generator_signature(spec: ModelSpec, generate: GenerateSpec) -> tuple[_TensorTypes, _TensorTypes]:
    inputs: _TensorTypes = {REMAINING: ("int32", ("B",))}
    if generate.sampled:
        inputs |= {NOISE: ("float32", ("N", "B")), TEMPERATURE: ("float32", ("B",))}
        inputs |= {TOP_K: ("int32", ("B",)), STOP: ("int32", ("B",))}
    emitted = generate.emitted
    outputs: _TensorTypes = {emitted.name: (emitted.dtype, ("N", "B", *emitted.shape))}
    return inputs | _state_types(spec, before=True), outputs | _state_types(spec, before=False)


def _encoder_signature(spec: ModelSpec, encode: EncodeSpec) -> tuple[_TensorTypes, _TensorTypes]:
    inputs = {tensor.name: _declared_type(tensor) for tensor in encode.inputs}
    if encode.lengths is not None:
        inputs[encode.lengths] = ("int32", ("B",))
    types = _state_types(spec, before=False).values()
    return inputs, dict(zip(encode.state, types, strict=False))


def _state_types(spec: ModelSpec, *, before: bool) -> _TensorTypes:
    types: _TensorTypes = {}
    for pair in spec.state:
        sizes: list[int | str] = list(pair.shape)
        sizes.insert(pair.batch_axis, "B")
        types[pair.input if before else pair.output] = (pair.dtype, tuple(sizes))
    return types


def _declared_type(tensor: TensorSpec) -> _TensorType:
    axes = ("T", "B") if tensor.per_step else ("B",)
    return tensor.dtype, (*axes, *tensor.shape)


def _graph_type(entry: onnx.ValueInfoProto) -> _TensorType:
    tensor = entry.type.tensor_type
    sizes = tuple(
        size.dim_value if size.HasField("dim_value") else size.dim_param for size in tensor.shape.dim
    )
    if tensor.elem_type == TensorProto.UNDEFINED:
        return "undefined", sizes
    return helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, sizes


def _problems(file: GraphFile, inputs: _TensorTypes, outputs: _TensorTypes) -> list[str]:
    graph = file.model.graph
    return [
        *_differences("input", inputs, {entry.name: _graph_type(entry) for entry in graph.input}),
        *_differences("output", outputs, {entry.name: _graph_type(entry) for entry in graph.output}),
    ]


def _differences(kind: str, declared: _TensorTypes, found: _TensorTypes) -> list[str]:
    problems = []
    for name in sorted(declared.keys() | found.keys()):
        if name not in found:
            problems.append(f"{kind} {name!r} is declared, but not in the graph")
        elif name not in declared:
            problems.append(f"{kind} {name!r} is in the graph, but not declared")
        elif not _agree(declared[name], found[name]):
            problems.append(f"{kind} {name!r}: declared {_text(declared[name])}, graph {_text(found[name])}")
    return problems


def _agree(declared: _TensorType, found: _TensorType) -> bool:
    """Whether types are the same; "B", "T" and "N" agree with any free size, whose name ONNX does not fix."""
    same_rank = len(declared[1]) == len(found[1])
    return (
        declared[0] == found[0]
        and same_rank
        and all(
            isinstance(actual, str) if isinstance(expected, str) else actual == expected
            for expected, actual in zip(declared[1], found[1], strict=True)
        )
    )


def _text(tensor_type: _TensorType) -> str:
    return f"{tensor_type[0]} [{', '.join(map(str, tensor_type[1]))}]"

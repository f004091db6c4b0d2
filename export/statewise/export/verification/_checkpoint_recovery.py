"""Rebuilds the NumPy checkpoint of an exported graph from the graph's constants.

Reads only graphs that `build_read_graph` wrote, whose constants have known names. The checkpoint computes in
NumPy what the graph computes in onnxruntime, so comparing both needs no file beside the graph.
"""

import numpy as np
from onnx import numpy_helper

from statewise.export.base import Array, PackageError
from statewise.export.graphs import (
    FLOAT16_SUFFIX,
    layer_name,
    recurrent_operator,
    unpack_initial,
    unpack_layer,
)
from statewise.export.package import ENCODER_GRAPH, READ_GRAPH, GraphFile, Package
from statewise.models import Checkpoint, Network, NetworkSpec, Normalisation


def recover_checkpoint(package: Package) -> Checkpoint:
    """Rebuilds the network and the normalisation of a package.

    Raises:
        PackageError: the metadata describes no network, or a weight is missing or does not fit.
    """
    if package.network is None:
        raise PackageError(
            package.path, "expected the spec of a NumPy network in the metadata; the file has none"
        )
    spec = package.network
    constants = _constants(package.files[READ_GRAPH])
    try:
        parameters = _parameters(spec, constants) | _initial_state(package)
        if spec.encoder is not None:
            encoder = _parameters(spec.encoder, _constants(package.files[ENCODER_GRAPH]))
            parameters |= {f"encoder.{name}": array for name, array in encoder.items()}
        network = Network(spec, parameters)
    except KeyError as missing:
        raise PackageError(package.path, f"expected {missing} in the package; it has none") from None
    except ValueError as error:
        raise PackageError(package.path, f"weights that do not fit the network: {error}") from None
    return Checkpoint(network=network, normalisation=_normalisation(package.files[READ_GRAPH], constants))


def _parameters(spec: NetworkSpec, constants: dict[str, Array]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for layer in range(spec.layers):
        W, R, B = (constants[layer_name(layer, part)] for part in "WRB")
        found |= unpack_layer(spec, W, R, B, layer)
        initial = {memory: layer_name(layer, memory) for memory in recurrent_operator(spec.cell).memories}
        if all(name in constants for name in initial.values()):
            packed = {memory: constants[name] for memory, name in initial.items()}
            found |= unpack_initial(spec, packed, layer)
    if spec.output_size:
        found["head.V"] = constants["head.V"].T
        found["head.c"] = constants["head.c"]
    if spec.embedding_size:
        found["embedding.E"] = constants["embedding.E"]
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def _initial_state(package: Package) -> dict[str, Array]:
    """Returns the learned initial memories of a graph with a state, which stand in the metadata."""
    spec = package.network
    if spec is None or not spec.learn_initial_state or not package.spec.state:
        return {}
    initial = package.spec.state[0].initial_state()
    return {f"initial.{name}": initial[offset : offset + size] for name, offset, size in spec.memory_parts()}


def _constants(file: GraphFile) -> dict[str, Array]:
    constants = {entry.name: numpy_helper.to_array(entry) for entry in file.model.graph.initializer}
    return {
        name.removesuffix(FLOAT16_SUFFIX): array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in constants.items()
    }


def _normalisation(file: GraphFile, constants: dict[str, Array]) -> Normalisation:
    names = ("input_mean", "input_scale", "output_mean", "output_scale")
    rooted = any(node.op_type == "Sqrt" for node in file.model.graph.node)
    return Normalisation(
        **{name: constants.get(name) for name in names}, transform="sqrt" if rooted else "identity"
    )

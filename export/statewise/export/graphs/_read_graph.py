"""The read graph: T time steps from a given state, to outputs and the state after them.

Not the feedback loop of generation (_write_graph). The graph computes what `Checkpoint.predict` computes, in
the same order: normalise, layers, head, denormalise. It is time-major; T and B are free.

    x         float32 [T, B, I], int32 [T, B] for tokens, float32 [B, I] for a one-to-one network
    lengths   int32 [B], each at least 1        (not for one-to-one)
    state     float32 [B, S]                    (streamable networks only)
    y         float32 [T, B, O], or [B, O] where the head reads the final state; without a head, h
    state_out float32 [B, S], of each row's last valid step

Rows of y past their length are not zero, unlike NumPy's: the head's bias and the normalisation are in them.
Whoever pads cuts the padding off, so no step pays for a mask.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from statewise.export.graphs._graph_builder import GraphBuilder
from statewise.export.graphs._weight_packing import pack_layer, packed_cell
from statewise.models import Network, NetworkSpec, Normalisation

Array = NDArray[Any]

INPUT, LENGTHS, STATE = "x", "lengths", "state"
OUTPUT, STATE_OUT = "y", "state_out"


def layer_name(layer: int, part: str = "") -> str:
    """Name of a layer's node, or with a part (W, R, B) of its weights; `recover_network` finds them by it."""
    return f"layer{layer}.{part}" if part else f"layer{layer}"


@dataclass(frozen=True)
class _Layers:
    """What the stacked layers leave behind: names of tensors."""

    outputs: str
    """[T, B, D*H] of the last layer."""
    final: str
    """[B, D*H]: the last layer's h after each row's last valid step, both directions."""
    memories: list[str]
    """Of every layer, [D, B, H] each, in the order of the state tensor."""


def build_read_graph(
    network: Network, normalisation: Normalisation, *, doc: str, metadata: dict[str, str]
) -> onnx.ModelProto:
    """The network as an ONNX model; normalisation, head and state are in it.

    Args:
        network: Networks of other floats than float32 are exported in float32.
        normalisation: Of inputs and outputs.
        doc: Text for people who open the file.
        metadata: Goes into the file's metadata_props.

    """
    spec = network.spec
    graph = GraphBuilder()
    parameters = float32_parameters(network)
    x = _add_input(graph, spec, parameters, normalisation)
    layers = _add_layers(graph, spec, parameters, x)
    _add_head(graph, spec, parameters, normalisation, x, layers)
    if spec.streamable:
        joined = concatenate(graph, layers.memories, "state_after")
        graph.add("Squeeze", [joined, graph.constant("direction_axis", [0])], STATE_OUT)
        graph.output(STATE_OUT, "float32", ("B", spec.state_size))
    return graph.model(f"statewise.{spec.call_shape}.{spec.cell}", doc=doc, metadata=metadata)


def build_encode_graph(network: Network, *, doc: str) -> onnx.ModelProto:
    """The encoder of an encoder-decoder: x [T, B], lengths [B] -> state_out [B, S], no state in.

    The memories lie in the order of `NetworkSpec.memory_parts`: by layer, direction and kind.

    Args:
        network: The encoder itself.
        doc: Text for people who open the file.
    """
    spec = network.spec
    graph = GraphBuilder()
    parameters = float32_parameters(network)
    x = _add_input(graph, spec, parameters, Normalisation())
    memories: list[str] = []
    for layer in range(spec.layers):
        outputs, after = add_layer(graph, spec, parameters, layer, x, [])
        if layer < spec.layers - 1:
            x = _join_outputs(graph, spec, layer, outputs)
        memories.append(_join_memories(graph, layer, after))
    joined = graph.add("Concat", memories, "memories", axis=1) if len(memories) > 1 else memories[0]
    graph.rename(joined, STATE_OUT)
    graph.output(STATE_OUT, "float32", ("B", spec.memory_size))
    return graph.model(f"statewise.encoder.{spec.cell}", doc=doc, metadata={})


def float32_parameters(network: Network) -> dict[str, Array]:
    """The parameters as graphs hold them."""
    return {name: np.asarray(array, np.float32) for name, array in network.parameters.items()}


def _add_input(
    graph: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], normalisation: Normalisation
) -> str:
    """Declares x and gives what the first layer reads: [T, B, I], or [T, B, E] with an embedding."""
    single = spec.call_shape == "one_to_one"
    axes: tuple[int | str, ...] = ("B",) if single else ("T", "B")
    if spec.embedding_size:
        x = graph.input(INPUT, "int32", axes)
        x = graph.add(
            "Gather", [graph.constant("embedding.E", parameters["embedding.E"]), x], "embedded", axis=0
        )
    else:
        x = graph.input(INPUT, "float32", (*axes, spec.input_size))
        x = normalise(graph, normalisation, x)
    if single:
        return graph.add("Unsqueeze", [x, graph.constant("time_axis", [0])], "x_as_one_step")
    graph.input(LENGTHS, "int32", ("B",))
    return x


def normalise(graph: GraphBuilder, normalisation: Normalisation, x: str) -> str:
    """(f(x) - mean) / scale; see `statewise.models.Normalisation`."""
    if normalisation.transform == "sqrt":
        x = graph.add("Sqrt", [graph.add("Relu", [x], "x_not_negative")], "x_root")
    if normalisation.input_mean is not None and normalisation.input_scale is not None:
        x = graph.add("Sub", [x, graph.constant("input_mean", normalisation.input_mean)], "x_centred")
        x = graph.add("Div", [x, graph.constant("input_scale", normalisation.input_scale)], "x_normalised")
    return x


def _add_layers(graph: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], x: str) -> _Layers:
    initial = split_state(graph, spec) if spec.streamable else [[] for _ in range(spec.layers)]
    memories: list[str] = []
    for layer in range(spec.layers):
        outputs, after = add_layer(graph, spec, parameters, layer, x, initial[layer])
        memories += after
        if layer < spec.layers - 1 or not spec.final:
            x = _join_outputs(graph, spec, layer, outputs)
    return _Layers(x, _join_final(graph, spec, after[0]) if spec.final else "", memories)


def split_state(graph: GraphBuilder, spec: NetworkSpec) -> list[list[str]]:
    """Declares the state and splits it: for each layer its memories [1, B, H]."""
    state = graph.input(STATE, "float32", ("B", spec.state_size))
    state = graph.add("Unsqueeze", [state, graph.constant("direction_axis", [0])], "state_of_one_direction")
    names = [f"{name}.before" for name, _, _ in spec.state_parts()]
    if len(names) > 1:
        sizes = graph.constant("state_sizes", [size for _, _, size in spec.state_parts()])
        graph.add_many("Split", [state, sizes], names, name="state_parts", axis=2)
    else:
        names = [state]
    count = len(packed_cell(spec.cell).memories)
    return [names[count * layer : count * (layer + 1)] for layer in range(spec.layers)]


def concatenate(graph: GraphBuilder, memories: list[str], name: str) -> str:
    """Memories [1, B, H] side by side, [1, B, S]."""
    return graph.add("Concat", memories, name, axis=2) if len(memories) > 1 else memories[0]


def add_layer(
    graph: GraphBuilder,
    spec: NetworkSpec,
    parameters: dict[str, Array],
    layer: int,
    x: str,
    initial: list[str],
    *,
    lengths: str = LENGTHS,
) -> tuple[str, list[str]]:
    """One recurrent operator: its outputs [T, D, B, H] and its memories afterwards, [D, B, H] each."""
    cell = packed_cell(spec.cell)
    weights = pack_layer(spec, parameters, layer)
    constants = [
        graph.constant(layer_name(layer, part), array) for part, array in zip("WRB", weights, strict=True)
    ]
    lengths = "" if spec.call_shape == "one_to_one" else lengths
    outputs = f"layer{layer}.outputs"
    memories = [f"layer{layer}.{memory}.after" for memory in cell.memories]
    graph.add_many(
        cell.operator,
        [x, *constants, lengths, *initial],
        [outputs, *memories],
        name=layer_name(layer),
        direction="bidirectional" if spec.bidirectional else "forward",
        hidden_size=spec.hidden_size,
        activations=_activations(spec),
        **({"linear_before_reset": int(spec.reset_after)} if spec.cell == "gru" else {}),
    )
    return outputs, memories


def _activations(spec: NetworkSpec) -> list[str]:
    """Of the gates, the candidate, and for the LSTM of c on its way out; for each direction."""
    chosen = spec.activation.capitalize()
    one_direction = {"rnn": [chosen], "lstm": ["Sigmoid", chosen, "Tanh"], "gru": ["Sigmoid", chosen]}
    return one_direction[spec.cell] * len(spec.directions)


def _join_outputs(graph: GraphBuilder, spec: NetworkSpec, layer: int, outputs: str) -> str:
    """[T, D, B, H] -> [T, B, D*H]."""
    if not spec.bidirectional:
        axis = graph.constant("outputs_direction_axis", [1])
        return graph.add("Squeeze", [outputs, axis], f"layer{layer}.y")
    joined = graph.add("Transpose", [outputs], f"layer{layer}.outputs_batch_first", perm=[0, 2, 1, 3])
    return graph.add("Reshape", [joined, graph.constant("outputs_shape", [0, 0, -1])], f"layer{layer}.y")


def _join_final(graph: GraphBuilder, spec: NetworkSpec, h: str) -> str:
    """[D, B, H] -> [B, D*H]."""
    if not spec.bidirectional:
        return graph.add("Squeeze", [h, graph.constant("final_direction_axis", [0])], "final")
    joined = graph.add("Transpose", [h], "final_batch_first", perm=[1, 0, 2])
    return graph.add("Reshape", [joined, graph.constant("final_shape", [0, -1])], "final")


def _join_memories(graph: GraphBuilder, layer: int, memories: list[str]) -> str:
    """Each [D, B, H] -> [B, D*K*H], direction by direction, the K kinds of memory beside each other."""
    kind_axis = graph.constant("kind_axis", [1])
    kinds = [graph.add("Unsqueeze", [name, kind_axis], f"{name}.kind") for name in memories]
    joined = graph.add("Concat", kinds, f"layer{layer}.memories", axis=1)
    joined = graph.add("Transpose", [joined], f"layer{layer}.memories_batch_first", perm=[2, 0, 1, 3])
    shape = graph.constant("memories_shape", [0, -1])
    return graph.add("Reshape", [joined, shape], f"layer{layer}.memories_flat")


def _add_head(
    graph: GraphBuilder,
    spec: NetworkSpec,
    parameters: dict[str, Array],
    normalisation: Normalisation,
    x: str,
    layers: _Layers,
) -> None:
    """V h + c, the residual, softmax or sigmoid, denormalisation: y."""
    value = add_scores(graph, spec, parameters, layers.final if spec.final else layers.outputs)
    if spec.residual:
        value = graph.add("Add", [value, _residual_channels(graph, spec, x)], "head.residual")
    if spec.head == "softmax":
        value = graph.add("Softmax", [value], "head.probabilities", axis=-1)
    elif spec.head == "sigmoid":
        value = graph.add("Sigmoid", [value], "head.probabilities")
    value = denormalise(graph, normalisation, value)
    graph.rename(value, OUTPUT)
    axes: tuple[int | str, ...] = ("B",) if spec.final else ("T", "B")
    graph.output(OUTPUT, "float32", (*axes, output_width(spec)))


def output_width(spec: NetworkSpec) -> int:
    """O, or D*H where there is no head."""
    return spec.output_size or len(spec.directions) * spec.hidden_size


def add_scores(graph: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], h: str) -> str:
    """V h + c of [..., D*H]; h itself where there is no head."""
    if not spec.output_size:
        return graph.add("Identity", [h], "head.scores")
    h = graph.add("MatMul", [h, graph.constant("head.V", parameters["head.V"].T)], "head.product")
    return graph.add("Add", [h, graph.constant("head.c", parameters["head.c"])], "head.scores")


def denormalise(graph: GraphBuilder, normalisation: Normalisation, y: str) -> str:
    """f^-1(y * scale + mean)."""
    if normalisation.output_mean is not None and normalisation.output_scale is not None:
        y = graph.add("Mul", [y, graph.constant("output_scale", normalisation.output_scale)], "y_scaled")
        y = graph.add("Add", [y, graph.constant("output_mean", normalisation.output_mean)], "y_shifted")
    if normalisation.transform == "sqrt":
        y = graph.add("Relu", [y], "y_not_negative")
        y = graph.add("Mul", [y, y], "y_squared")
    return y


def _residual_channels(graph: GraphBuilder, spec: NetworkSpec, x: str) -> str:
    """The first O input channels, [T, B, O]."""
    if spec.output_size == spec.input_size:
        return x
    bounds = [
        graph.constant("residual_start", [0]),
        graph.constant("residual_end", [spec.output_size]),
        graph.constant("residual_axis", [2]),
    ]
    return graph.add("Slice", [x, *bounds], "residual")

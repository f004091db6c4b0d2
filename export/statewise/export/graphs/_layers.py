"""Adds the parts that the graphs share: input, normalisation, recurrent layers, state, head.

    x          float32 [B, I] (one-to-one) or [T, B, I], for tokens int32 [B] or [T, B]
    outputs    float32 [T, D, B, H] of one recurrent operator
    memories   float32 [D, B, H] each: a layer's h, then for the LSTM its c

D is the number of directions; a graph with a state has one.
"""

import numpy as np

from statewise.export.base import Array
from statewise.export.graphs._graph_builder import GraphBuilder
from statewise.export.graphs._tensor_names import INPUT, LENGTHS, STATE, STATE_OUT, layer_name
from statewise.export.graphs._weight_packing import pack_initial, pack_layer, recurrent_operator
from statewise.models import Network, NetworkSpec, Normalisation


def float32_parameters(network: Network) -> dict[str, Array]:
    """Returns the network's parameters in float32, which is what graphs hold."""
    return {name: np.asarray(array, np.float32) for name, array in network.parameters.items()}


def add_input(
    graph: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], normalisation: Normalisation
) -> str:
    """Declares x and lengths; returns what the first layer reads: [T, B, I], with an embedding [T, B, E]."""
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
    """Computes (f(x) - mean) / scale; see `statewise.models.Normalisation`."""
    if normalisation.transform == "sqrt":
        x = graph.add("Sqrt", [graph.add("Relu", [x], "x_not_negative")], "x_root")
    if normalisation.input_mean is not None and normalisation.input_scale is not None:
        x = graph.add("Sub", [x, graph.constant("input_mean", normalisation.input_mean)], "x_centred")
        x = graph.add("Div", [x, graph.constant("input_scale", normalisation.input_scale)], "x_normalised")
    return x


def denormalise(graph: GraphBuilder, normalisation: Normalisation, y: str) -> str:
    """Computes f^-1(y * scale + mean)."""
    if normalisation.output_mean is not None and normalisation.output_scale is not None:
        y = graph.add("Mul", [y, graph.constant("output_scale", normalisation.output_scale)], "y_scaled")
        y = graph.add("Add", [y, graph.constant("output_mean", normalisation.output_mean)], "y_shifted")
    if normalisation.transform == "sqrt":
        y = graph.add("Relu", [y], "y_not_negative")
        y = graph.add("Mul", [y, y], "y_squared")
    return y


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
    """Adds one recurrent operator; returns its outputs [T, D, B, H] and final memories, [D, B, H] each."""
    operator = recurrent_operator(spec.cell)
    weights = pack_layer(spec, parameters, layer)
    constants = [
        graph.constant(layer_name(layer, part), array) for part, array in zip("WRB", weights, strict=True)
    ]
    lengths = "" if spec.call_shape == "one_to_one" else lengths
    outputs = f"layer{layer}.outputs"
    memories = [f"layer{layer}.{memory}.after" for memory in operator.memories]
    graph.add_many(
        operator.name,
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
    """Lists the functions of gates, candidate and, for the LSTM, c in h = o * f(c), for each direction."""
    chosen = spec.activation.capitalize()
    one_direction = {"rnn": [chosen], "lstm": ["Sigmoid", chosen, "Tanh"], "gru": ["Sigmoid", chosen]}
    return one_direction[spec.cell] * len(spec.directions)


def join_outputs(graph: GraphBuilder, spec: NetworkSpec, layer: int, outputs: str) -> str:
    """Joins the directions: [T, D, B, H] -> [T, B, D*H]."""
    if not spec.bidirectional:
        axis = graph.constant("outputs_direction_axis", [1])
        return graph.add("Squeeze", [outputs, axis], f"layer{layer}.y")
    joined = graph.add("Transpose", [outputs], f"layer{layer}.outputs_batch_first", perm=[0, 2, 1, 3])
    return graph.add("Reshape", [joined, graph.constant("outputs_shape", [0, 0, -1])], f"layer{layer}.y")


def split_state(graph: GraphBuilder, spec: NetworkSpec) -> list[list[str]]:
    """Declares the state [B, S] and splits it; returns each layer's memories, [1, B, H] each."""
    state = graph.input(STATE, "float32", ("B", spec.state_size))
    state = graph.add("Unsqueeze", [state, graph.constant("direction_axis", [0])], "state_of_one_direction")
    names = [f"{name}.before" for name, _, _ in spec.state_parts()]
    if len(names) > 1:
        sizes = graph.constant("state_sizes", [size for _, _, size in spec.state_parts()])
        graph.add_many("Split", [state, sizes], names, name="state_parts", axis=2)
    else:
        names = [state]
    count = len(recurrent_operator(spec.cell).memories)
    return [names[count * layer : count * (layer + 1)] for layer in range(spec.layers)]


def add_initial_memories(
    graph: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], x: str
) -> list[list[str]]:
    """Returns each layer's learned initial memories, [D, B, H] each, for x [T, B, I]; none if they are zeros.

    For graphs without a state input.
    """
    if not spec.learn_initial_state:
        return [[] for _ in range(spec.layers)]
    rows = graph.add("Shape", [x], "rows", start=1, end=2)
    one = graph.constant("one_row", [1])
    every_row = graph.add("Concat", [one, rows, one], "every_row", axis=0)  # [1, B, 1]
    names: list[list[str]] = []
    for layer in range(spec.layers):
        packed = pack_initial(spec, parameters, layer).items()
        constants = [(memory, graph.constant(layer_name(layer, memory), array)) for memory, array in packed]
        names.append(
            [
                graph.add("Expand", [start, every_row], f"layer{layer}.{kind}.before")
                for kind, start in constants
            ]
        )
    return names


def add_state_output(graph: GraphBuilder, spec: NetworkSpec, memories: list[str]) -> None:
    """Joins all layers' memories [1, B, H] to the output state_out [B, S]."""
    joined = graph.add("Concat", memories, "state_after", axis=2) if len(memories) > 1 else memories[0]
    graph.add("Squeeze", [joined, graph.constant("direction_axis", [0])], STATE_OUT)
    graph.output(STATE_OUT, "float32", ("B", spec.state_size))


def add_scores(graph: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], h: str) -> str:
    """Computes V h + c of h [..., D*H]; h itself where the network has no head."""
    if not spec.output_size:
        return graph.add("Identity", [h], "head.scores")
    h = graph.add("MatMul", [h, graph.constant("head.V", parameters["head.V"].T)], "head.product")
    return graph.add("Add", [h, graph.constant("head.c", parameters["head.c"])], "head.scores")

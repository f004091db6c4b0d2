"""Builds the read graph: T time steps from a given state, to outputs and the state after them.

The graph computes what `Checkpoint.predict` computes, in the same order: normalise, layers, head,
denormalise. T and B are free.

    x         float32 [T, B, I], int32 [T, B] for tokens, float32 [B, I] for a one-to-one network
    lengths   int32 [B], each at least 1        (not for one-to-one)
    state     float32 [B, S]                    (streamable networks only)
    y         float32 [T, B, O], or [B, O] where the head reads the final state; without a head, h
    state_out float32 [B, S], of each row's last valid step

Rows of y past their length hold the head's bias and the normalisation, where NumPy has zeros: the caller
discards the padding, so no step needs a mask.
"""

from dataclasses import dataclass

import onnx

from statewise.export.base import Array
from statewise.export.graphs._graph_builder import GraphBuilder
from statewise.export.graphs._layers import (
    add_initial_memories,
    add_input,
    add_layer,
    add_scores,
    add_state_output,
    denormalise,
    float32_parameters,
    join_outputs,
    split_state,
)
from statewise.export.graphs._tensor_names import OUTPUT
from statewise.models import Network, NetworkSpec, Normalisation


@dataclass(frozen=True)
class _LayerResults:
    """Names of the tensors that the stacked layers give."""

    outputs: str
    """[T, B, D*H] of the last layer."""
    final: str
    """[B, D*H]: the last layer's h after each row's last valid step, both directions."""
    memories: list[str]
    """Of every layer, [D, B, H] each, in the order of the state tensor."""


def build_read_graph(
    network: Network, normalisation: Normalisation, *, doc: str, metadata: dict[str, str]
) -> onnx.ModelProto:
    """Builds the network as an ONNX model, with normalisation and head inside.

    Args:
        network: Parameters of other float types are exported in float32.
        normalisation: Of inputs and outputs.
        doc: Text for people who open the file.
        metadata: Entries of the file's metadata_props.
    """
    spec = network.spec
    graph = GraphBuilder()
    parameters = float32_parameters(network)
    x = add_input(graph, spec, parameters, normalisation)
    layers = _add_layers(graph, spec, parameters, x)
    _add_head(graph, spec, parameters, normalisation, x, layers)
    if spec.streamable:
        add_state_output(graph, spec, layers.memories)
    return graph.model(f"statewise.{spec.call_shape}.{spec.cell}", doc=doc, metadata=metadata)


def output_width(spec: NetworkSpec) -> int:
    """Returns O, or D*H where the network has no head."""
    return spec.output_size or len(spec.directions) * spec.hidden_size


def _add_layers(
    graph: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], x: str
) -> _LayerResults:
    initial = (
        split_state(graph, spec) if spec.streamable else add_initial_memories(graph, spec, parameters, x)
    )
    memories: list[str] = []
    for layer in range(spec.layers):
        outputs, after = add_layer(graph, spec, parameters, layer, x, initial[layer])
        memories += after
        if layer < spec.layers - 1 or not spec.final:
            x = join_outputs(graph, spec, layer, outputs)
    return _LayerResults(x, _join_final(graph, spec, after[0]) if spec.final else "", memories)


def _join_final(graph: GraphBuilder, spec: NetworkSpec, h: str) -> str:
    """Joins the directions of a final memory: [D, B, H] -> [B, D*H]."""
    if not spec.bidirectional:
        return graph.add("Squeeze", [h, graph.constant("final_direction_axis", [0])], "final")
    joined = graph.add("Transpose", [h], "final_batch_first", perm=[1, 0, 2])
    return graph.add("Reshape", [joined, graph.constant("final_shape", [0, -1])], "final")


def _add_head(
    graph: GraphBuilder,
    spec: NetworkSpec,
    parameters: dict[str, Array],
    normalisation: Normalisation,
    x: str,
    layers: _LayerResults,
) -> None:
    """Adds scores V h + c, the residual, softmax or sigmoid, denormalisation, and declares y."""
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


def _residual_channels(graph: GraphBuilder, spec: NetworkSpec, x: str) -> str:
    """Returns the first O input channels, [T, B, O]."""
    if spec.output_size == spec.input_size:
        return x
    bounds = [
        graph.constant("residual_start", [0]),
        graph.constant("residual_end", [spec.output_size]),
        graph.constant("residual_axis", [2]),
    ]
    return graph.add("Slice", [x, *bounds], "residual")

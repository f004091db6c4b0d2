"""Builds the encoder graph: a sequence to the initial state of a decoder.

x         int32 [T, B], or float32 [T, B, I]
lengths   int32 [B], each at least 1
state_out float32 [B, S], in the order of `NetworkSpec.memory_parts`: by layer, direction and kind
"""

import onnx

from statewise.export.graphs._graph_builder import GraphBuilder
from statewise.export.graphs._layers import (
    add_initial_memories,
    add_input,
    add_layer,
    float32_parameters,
    join_outputs,
)
from statewise.export.graphs._tensor_names import STATE_OUT
from statewise.models import Network, Normalisation


def build_encoder_graph(network: Network, *, doc: str) -> onnx.ModelProto:
    """Builds the encoder of an encoder-decoder as an ONNX model, without a state input.

    Args:
        network: The encoder itself.
        doc: Text for people who open the file.
    """
    spec = network.spec
    graph = GraphBuilder()
    parameters = float32_parameters(network)
    x = add_input(graph, spec, parameters, Normalisation())
    initial = add_initial_memories(graph, spec, parameters, x)
    memories: list[str] = []
    for layer in range(spec.layers):
        outputs, after = add_layer(graph, spec, parameters, layer, x, initial[layer])
        if layer < spec.layers - 1:
            x = join_outputs(graph, spec, layer, outputs)
        memories.append(_join_memories(graph, layer, after))
    joined = graph.add("Concat", memories, "memories", axis=1) if len(memories) > 1 else memories[0]
    graph.rename(joined, STATE_OUT)
    graph.output(STATE_OUT, "float32", ("B", spec.memory_size))
    return graph.model(f"statewise.encoder.{spec.cell}", doc=doc, metadata={})


def _join_memories(graph: GraphBuilder, layer: int, memories: list[str]) -> str:
    """K memories [D, B, H] -> [B, D*K*H]: direction by direction, the K kinds of a direction in turn."""
    kind_axis = graph.constant("kind_axis", [1])
    kinds = [graph.add("Unsqueeze", [name, kind_axis], f"{name}.kind") for name in memories]
    joined = graph.add("Concat", kinds, f"layer{layer}.memories", axis=1)
    joined = graph.add("Transpose", [joined], f"layer{layer}.memories_batch_first", perm=[2, 0, 1, 3])
    shape = graph.constant("memories_shape", [0, -1])
    return graph.add("Reshape", [joined, shape], f"layer{layer}.memories_flat")

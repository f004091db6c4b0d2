"""Builds the generator graph: a Loop that emits a value from a state, consumes it, and repeats.

Seeds, stop tokens and texts are chosen outside; the graph takes them as tensors. It computes what
`statewise.models.generate_tokens` and `generate_values` compute. A step begins with the head, so the graph
needs no output of the step before: that output is a function of the state's h.

    state       float32 [B, S]
    remaining   int32 [B]         values that each row still emits
    noise       float32 [N, B]    uniform in [0, 1); this and the next three for tokens only
    temperature float32 [B]       0: the likeliest token
    top_k       int32 [B]         0: all tokens
    stop        int32 [B]         a token that is emitted and not consumed; -1: none
    emitted     int32 [N', B] with -1 once a row has ended, or float32 [N', B, O] with 0
    state_out   float32 [B, S]

A row that has ended keeps its state, and the loop ends with the last row. So a row's values depend neither on
its neighbours nor on how a generation is cut into runs.
"""

import numpy as np
import onnx

from statewise.export.base import Array
from statewise.export.graphs._graph_builder import GraphBuilder
from statewise.export.graphs._layers import (
    add_layer,
    add_scores,
    add_state_output,
    denormalise,
    float32_parameters,
    normalise,
    split_state,
)
from statewise.export.graphs._sampling import add_sampling_inputs, emit_token
from statewise.export.graphs._tensor_names import EMITTED, REMAINING
from statewise.models import Network, NetworkSpec, Normalisation


def generates_tokens(spec: NetworkSpec) -> bool:
    """Returns whether tokens can be drawn from a network's outputs and fed back as its inputs."""
    return (
        spec.streamable
        and not spec.final
        and spec.embedding_size > 0
        and spec.head == "softmax"
        and 0 < spec.output_size <= spec.input_size
    )


def generates_values(spec: NetworkSpec, normalisation: Normalisation) -> bool:
    """Returns whether outputs can be the next inputs: of the same number and in the same units."""
    same_units = all(
        np.array_equal(a, b) if a is not None and b is not None else a is b
        for a, b in (
            (normalisation.input_mean, normalisation.output_mean),
            (normalisation.input_scale, normalisation.output_scale),
        )
    )
    return (
        spec.streamable
        and not spec.final
        and not spec.embedding_size
        and spec.head == "linear"
        and spec.output_size == spec.input_size
        and same_units
    )


def build_generator_graph(network: Network, normalisation: Normalisation, *, doc: str) -> onnx.ModelProto:
    """Builds the feedback loop of a network of which `generates_tokens` or `generates_values` is true.

    Not of a residual network, whose last output also depends on its last input, which no state holds.

    Args:
        network: Parameters of other float types are exported in float32.
        normalisation: Of inputs and outputs.
        doc: Text for people who open the file.
    """
    spec = network.spec
    parameters = float32_parameters(network)
    graph = GraphBuilder()
    before = [name for layer in split_state(graph, spec) for name in layer]
    remaining = graph.input(REMAINING, "int32", ("B",))
    limit = add_sampling_inputs(graph, spec) if spec.embedding_size else ""
    kind, shape = ("int32", ("B",)) if spec.embedding_size else ("float32", ("B", spec.output_size))
    body = _build_body(graph, spec, parameters, normalisation, kind, shape)

    most = graph.add("ReduceMax", [remaining], "most", keepdims=0)
    first = graph.add("Greater", [most, "none_left"], "any_left")
    final = [f"{name}.after" for name in _memory_names(spec)]
    graph.add_many(
        "Loop",
        [limit, first, *before, remaining],
        [*final, "left_at_last", EMITTED],
        name="loop",
        body=body.body("step"),
    )
    graph.output(EMITTED, kind, ("N", *shape))
    add_state_output(graph, spec, final)
    return graph.model(f"statewise.generate.{spec.cell}", doc=doc, metadata={})


def _build_body(
    graph: GraphBuilder,
    spec: NetworkSpec,
    parameters: dict[str, Array],
    normalisation: Normalisation,
    kind: str,
    shape: tuple[int | str, ...],
) -> GraphBuilder:
    """Builds one step of the loop, which emits a value of this kind and shape."""
    body = GraphBuilder(graph)
    body.input("iteration", "int64", ())
    body.input("goes_on_before", "bool", ())
    names = [f"{name}.carried" for name in _memory_names(spec)]
    carried = [body.input(name, "float32", (1, "B", spec.hidden_size)) for name in names]
    left = body.input("left", "int32", ("B",))
    alive = body.add("Greater", [left, body.constant("none_left", np.int32(0))], "alive")
    scores = add_scores(body, spec, parameters, _last_layer_h(body, spec, carried))
    if spec.embedding_size:
        value, consumed, x = emit_token(body, spec, parameters, scores, alive)
    else:
        value, consumed, x = _emit_values(body, normalisation, scores, alive)
    after = _add_step(body, spec, parameters, x, carried)
    consumed_rows = body.add("Unsqueeze", [consumed, body.constant("row_axes", [0, 2])], "consumed_rows")
    one_less = body.add("Sub", [left, body.constant("one", np.int32(1))], "one_less")
    next_left = body.add("Where", [consumed, one_less, "none_left"], "left_after")
    most = body.add("ReduceMax", [next_left], "most_left", keepdims=0)
    body.add("Greater", [most, "none_left"], "goes_on")
    body.output("goes_on", "bool", ())
    for old, new in zip(carried, after, strict=True):
        kept = body.add("Where", [consumed_rows, new, old], f"{new}.kept")
        body.output(kept, "float32", (1, "B", spec.hidden_size))
    body.output(next_left, "int32", ("B",))
    body.output(value, kind, shape)
    return body


def _memory_names(spec: NetworkSpec) -> list[str]:
    return [name for name, _, _ in spec.state_parts()]


def _last_layer_h(body: GraphBuilder, spec: NetworkSpec, carried: list[str]) -> str:
    """[B, H]."""
    h = carried[-1] if spec.cell != "lstm" else carried[-2]
    return body.add("Squeeze", [h, body.constant("direction_axis", [0])], "top")


def _emit_values(
    body: GraphBuilder, normalisation: Normalisation, scores: str, alive: str
) -> tuple[str, str, str]:
    """The emitted values float32 [B, O], the rows that consume them bool [B], and the next x [1, B, I]."""
    y = denormalise(body, normalisation, scores)
    rows = body.add("Unsqueeze", [alive, body.constant("column_axis", [1])], "alive_rows")
    value = body.add("Where", [rows, y, body.constant("zero", np.float32(0))], "value")
    x = normalise(body, normalisation, y)
    return value, alive, body.add("Unsqueeze", [x, body.constant("direction_axis", [0])], "read")


def _add_step(
    body: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], x: str, carried: list[str]
) -> list[str]:
    """Returns the memories [1, B, H] after one step on x [1, B, I]."""
    count = len(carried) // spec.layers
    after: list[str] = []
    for layer in range(spec.layers):
        initial = carried[count * layer : count * (layer + 1)]
        _, memories = add_layer(body, spec, parameters, layer, x, initial, lengths="")
        # The outputs of a single step are the memory h itself.
        x = memories[0]
        after += memories
    return after

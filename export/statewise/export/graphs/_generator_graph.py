"""The write graph: a Loop that emits a value from a state, consumes it, and so on.

Not the choice of seeds, stop tokens or texts: those come in as tensors. The graph computes what
`statewise.models.generate_tokens` and `generate_values` compute. It needs no output of the step before: that
is a function of the state's h, and a step begins with the head.

    state       float32 [B, S]
    remaining   int32 [B]         values that each row still emits
    noise       float32 [N, B]    tokens only, as all below: uniform in [0, 1)
    temperature float32 [B]       0: the likeliest
    top_k       int32 [B]         0: all
    stop        int32 [B]         emitted, not consumed; -1: none
    emitted     int32 [N', B] with -1 once a row has ended, or float32 [N', B, O] with 0
    state_out   float32 [B, S]

A row that has ended keeps its state, and the loop ends with the last row. So a row's values depend neither on
its neighbours nor on how a generation is cut into runs.
"""

import numpy as np
import onnx

from statewise.export.graphs._graph_builder import GraphBuilder
from statewise.export.graphs._read_graph import (
    STATE_OUT,
    Array,
    add_layer,
    add_scores,
    concatenate,
    denormalise,
    float32_parameters,
    normalise,
    split_state,
)
from statewise.models import Network, NetworkSpec, Normalisation

REMAINING, EMITTED = "remaining", "emitted"
NOISE, TEMPERATURE, TOP_K, STOP = "noise", "temperature", "top_k", "stop"


def generates_tokens(spec: NetworkSpec) -> bool:
    """Whether what a network says can be drawn from and read back as tokens."""
    return (
        spec.streamable
        and not spec.final
        and spec.embedding_size > 0
        and spec.head == "softmax"
        and 0 < spec.output_size <= spec.input_size
    )


def generates_values(spec: NetworkSpec, normalisation: Normalisation) -> bool:
    """Whether a network's outputs are its next inputs: as many, and in the same units."""
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


def build_write_graph(network: Network, normalisation: Normalisation, *, doc: str) -> onnx.ModelProto:
    """The feedback loop of a network of which `generates_tokens` or `generates_values` is true.

    Not of a residual one: its last output depends on the last input too, which no state holds.

    Args:
        network: Networks of other floats than float32 are exported in float32.
        normalisation: Of inputs and outputs.
        doc: Text for people who open the file.
    """
    spec = network.spec
    parameters = float32_parameters(network)
    graph = GraphBuilder()
    before = [name for layer in split_state(graph, spec) for name in layer]
    remaining = graph.input(REMAINING, "int32", ("B",))
    limit = _add_sampling_inputs(graph, spec) if spec.embedding_size else ""

    body = GraphBuilder(graph)
    body.input("iteration", "int64", ())
    body.input("goes_on_before", "bool", ())
    carried = [body.input(f"{name}.carried", "float32", (1, "B", spec.hidden_size)) for name in _parts(spec)]
    left = body.input("left", "int32", ("B",))
    alive = body.add("Greater", [left, body.constant("none_left", np.int32(0))], "alive")
    scores = add_scores(body, spec, parameters, _top(body, spec, carried))
    if spec.embedding_size:
        value, consumed, x = _emit_token(body, spec, parameters, scores, alive)
    else:
        value, consumed, x = _emit_values(body, normalisation, scores, alive)
    after = _step(body, spec, parameters, x, carried)
    consumed_rows = body.add("Unsqueeze", [consumed, body.constant("row_axes", [0, 2])], "consumed_rows")
    one_less = body.add("Sub", [left, body.constant("one", np.int32(1))], "one_less")
    next_left = body.add("Where", [consumed, one_less, "none_left"], "left_after")
    most = body.add("ReduceMax", [next_left], "most_left", keepdims=0)
    body.add("Greater", [most, "none_left"], "goes_on")
    body.output("goes_on", "bool", ())
    kept = []
    for old, new in zip(carried, after, strict=True):
        kept.append(body.add("Where", [consumed_rows, new, old], f"{new}.kept"))
        body.output(kept[-1], "float32", (1, "B", spec.hidden_size))
    body.output(next_left, "int32", ("B",))
    kind, shape = ("int32", ("B",)) if spec.embedding_size else ("float32", ("B", spec.output_size))
    body.output(value, kind, shape)

    most = graph.add("ReduceMax", [remaining], "most", keepdims=0)
    first = graph.add("Greater", [most, "none_left"], "any_left")
    final = [f"{name}.after" for name in _parts(spec)]
    graph.add_many(
        "Loop",
        [limit, first, *before, remaining],
        [*final, "left_at_last", EMITTED],
        name="loop",
        body=body.body("step"),
    )
    joined = concatenate(graph, final, "state_after")
    graph.add("Squeeze", [joined, "direction_axis"], STATE_OUT)
    graph.output(EMITTED, kind, ("N", *shape))
    graph.output(STATE_OUT, "float32", ("B", spec.state_size))
    return graph.model(f"statewise.generate.{spec.cell}", doc=doc, metadata={})


def _parts(spec: NetworkSpec) -> list[str]:
    return [name for name, _, _ in spec.state_parts()]


def _add_sampling_inputs(graph: GraphBuilder, spec: NetworkSpec) -> str:
    """Declares them and prepares, once for all steps, columns [B, 1]. Gives the most steps, int64 []."""
    column = graph.constant("column_axis", [1])
    temperature = graph.input(TEMPERATURE, "float32", ("B",))
    # At temperature 0 the exponent is infinite: 1 stays 1, less becomes 0; u = 0 takes the first of equals.
    sharpness = graph.add("Reciprocal", [temperature], "sharpness")
    graph.add("Unsqueeze", [sharpness, column], "sharpness_column")
    warm = graph.add("Sign", [temperature], "warm")
    noise = graph.add("Mul", [graph.input(NOISE, "float32", ("N", "B")), warm], "noise_where_warm")
    graph.add("Unsqueeze", [noise, graph.constant("noise_axis", [2])], "noise_columns")
    top_k = graph.input(TOP_K, "int32", ("B",))
    most = graph.add("ReduceMax", [top_k], "largest_k", keepdims=0)
    graph.add("Greater", [most, graph.constant("none_left", np.int32(0))], "any_limited")
    limited = graph.add("Greater", [top_k, "none_left"], "limited")
    everything = graph.constant("everything", np.int32(spec.output_size))
    k = graph.add("Unsqueeze", [graph.add("Where", [limited, top_k, everything], "k"), column], "k_column")
    ranks = graph.constant("ranks", np.arange(spec.output_size, dtype=np.int32)[None])
    graph.add(
        "Cast", [graph.add("Less", [ranks, k], "allowed")], "allowed_by_rank", to=onnx.TensorProto.FLOAT
    )
    graph.input(STOP, "int32", ("B",))
    shape = graph.add("Shape", [noise], "noise_rows", start=0, end=1)
    return graph.add("Squeeze", [shape, graph.constant("direction_axis", [0])], "most_steps")


def _top(body: GraphBuilder, spec: NetworkSpec, carried: list[str]) -> str:
    """The last layer's h, [B, H]."""
    h = carried[-1] if spec.cell != "lstm" else carried[-2]
    return body.add("Squeeze", [h, body.constant("direction_axis", [0])], "top")


def _emit_token(
    body: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], scores: str, alive: str
) -> tuple[str, str, str]:
    """What is emitted int32 [B], which rows consume it, and the vectors they read [1, B, E]."""
    token = _draw(body, spec, scores)
    value = body.add("Where", [alive, token, body.constant("nothing", np.int32(-1))], "value")
    # A row without a stop token has -1, which no token is.
    stopped = body.add("Equal", [value, STOP], "stopped")
    consumed = body.add("And", [alive, body.add("Not", [stopped], "not_stopped")], "consumed")
    read = body.add("Unsqueeze", [token, body.constant("direction_axis", [0])], "read")
    embedding = body.constant("embedding.E", parameters["embedding.E"])
    return value, consumed, body.add("Gather", [embedding, read], "embedded", axis=0)


def _draw(body: GraphBuilder, spec: NetworkSpec, scores: str) -> str:
    """A token a row, int32 [B]; see `statewise.models.draw_tokens`.

    u * total stays below the total for every float32 u below 1, so a token without weight is never drawn.
    """
    size = spec.output_size
    p = body.add("Softmax", [scores], "probabilities", axis=-1)
    likeliest = body.add("ReduceMax", [p], "likeliest", axes=[1], keepdims=1)
    relative = body.add("Div", [p, likeliest], "relative")
    weights = body.add("Pow", [relative, "sharpness_column"], "weights_of_all")
    weights = body.add(
        "If",
        ["any_limited"],
        "weights",
        then_branch=_limit(body, size, p, weights),
        else_branch=_pass(body, size, weights),
    )
    sums = body.add("CumSum", [weights, body.constant("token_axis", np.int64(1))], "sums")
    total = body.add("Gather", [sums, body.constant("last_token", [size - 1])], "total", axis=1)
    u = body.add("Gather", ["noise_columns", "iteration"], "u", axis=0)
    below = body.add("LessOrEqual", [sums, body.add("Mul", [u, total], "threshold")], "below")
    counted = body.add("Cast", [below], "below_counted", to=onnx.TensorProto.INT32)
    return body.add("ReduceSum", [counted, "column_axis"], "token", keepdims=0)


def _limit(body: GraphBuilder, size: int, p: str, weights: str) -> onnx.GraphProto:
    """Weights beyond the k likeliest become 0. Ranks among equals go by number, as in a stable sort.

    A branch of its own, because ranking costs as much as the rest of a step.
    """
    branch = GraphBuilder(body)
    ranked = [p, branch.constant("tokens", [size])]
    branch.add_many("TopK", ranked, ["sorted", "order"], name="rank", axis=1)
    allowed = branch.add("ScatterElements", [p, "order", "allowed_by_rank"], "allowed_by_token", axis=1)
    branch.output(branch.add("Mul", [weights, allowed], "weights_limited"), "float32", ("B", size))
    return branch.body("limit")


def _pass(body: GraphBuilder, size: int, weights: str) -> onnx.GraphProto:
    branch = GraphBuilder(body)
    branch.output(branch.add("Identity", [weights], "weights_not_limited"), "float32", ("B", size))
    return branch.body("pass")


def _emit_values(
    body: GraphBuilder, normalisation: Normalisation, scores: str, alive: str
) -> tuple[str, str, str]:
    """What is emitted float32 [B, O], which rows consume it, and what they read [1, B, I]."""
    y = denormalise(body, normalisation, scores)
    rows = body.add("Unsqueeze", [alive, body.constant("column_axis", [1])], "alive_rows")
    value = body.add("Where", [rows, y, body.constant("zero", np.float32(0))], "value")
    x = normalise(body, normalisation, y)
    return value, alive, body.add("Unsqueeze", [x, body.constant("direction_axis", [0])], "read")


def _step(
    body: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], x: str, carried: list[str]
) -> list[str]:
    """The memories after one step on x [1, B, I]."""
    count = len(carried) // spec.layers
    after: list[str] = []
    for layer in range(spec.layers):
        initial = carried[count * layer : count * (layer + 1)]
        _, memories = add_layer(body, spec, parameters, layer, x, initial, lengths="")
        # One step's outputs are the memory h itself.
        x = memories[0]
        after += memories
    return after

"""Adds the drawing of tokens to a generator graph, as `statewise.models.draw_tokens` draws them."""

import numpy as np
import onnx

from statewise.export.base import Array
from statewise.export.graphs._graph_builder import GraphBuilder
from statewise.export.graphs._tensor_names import NOISE, STOP, TEMPERATURE, TOP_K
from statewise.models import NetworkSpec


def add_sampling_inputs(graph: GraphBuilder, spec: NetworkSpec) -> str:
    """Declares the inputs and derives columns [B, 1] for all steps; returns the most steps, int64 []."""
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


def emit_token(
    body: GraphBuilder, spec: NetworkSpec, parameters: dict[str, Array], scores: str, alive: str
) -> tuple[str, str, str]:
    """Adds the emitted tokens int32 [B], the rows that consume them bool [B], and embeddings [1, B, E]."""
    token = _draw_token(body, spec, scores)
    value = body.add("Where", [alive, token, body.constant("nothing", np.int32(-1))], "value")
    # A row without a stop token has -1, which equals no token.
    stopped = body.add("Equal", [value, STOP], "stopped")
    consumed = body.add("And", [alive, body.add("Not", [stopped], "not_stopped")], "consumed")
    read = body.add("Unsqueeze", [token, body.constant("direction_axis", [0])], "read")
    embedding = body.constant("embedding.E", parameters["embedding.E"])
    return value, consumed, body.add("Gather", [embedding, read], "embedded", axis=0)


def _draw_token(body: GraphBuilder, spec: NetworkSpec, scores: str) -> str:
    """Returns a token for each row, int32 [B].

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
        then_branch=_keep_top_k(body, size, p, weights),
        else_branch=_keep_all(body, size, weights),
    )
    sums = body.add("CumSum", [weights, body.constant("token_axis", np.int64(1))], "sums")
    total = body.add("Gather", [sums, body.constant("last_token", [size - 1])], "total", axis=1)
    u = body.add("Gather", ["noise_columns", "iteration"], "u", axis=0)
    below = body.add("LessOrEqual", [sums, body.add("Mul", [u, total], "threshold")], "below")
    counted = body.add("Cast", [below], "below_counted", to=onnx.TensorProto.INT32)
    return body.add("ReduceSum", [counted, "column_axis"], "token", keepdims=0)


def _keep_top_k(body: GraphBuilder, size: int, p: str, weights: str) -> onnx.GraphProto:
    """Sets weights beyond the k likeliest to 0; equal probabilities rank by token, as in a stable sort.

    A branch of its own, because ranking costs as much as the rest of a step.
    """
    branch = GraphBuilder(body)
    ranked = [p, branch.constant("tokens", [size])]
    branch.add_many("TopK", ranked, ["sorted", "order"], name="rank", axis=1)
    allowed = branch.add("ScatterElements", [p, "order", "allowed_by_rank"], "allowed_by_token", axis=1)
    branch.output(branch.add("Mul", [weights, allowed], "weights_limited"), "float32", ("B", size))
    return branch.body("limit")


def _keep_all(body: GraphBuilder, size: int, weights: str) -> onnx.GraphProto:
    branch = GraphBuilder(body)
    branch.output(branch.add("Identity", [weights], "weights_not_limited"), "float32", ("B", size))
    return branch.body("pass")

"""Builds ONNX graphs from networks of statewise.models; reads no file, writes none and runs nothing."""

from statewise.export.graphs._encoder_graph import build_encoder_graph
from statewise.export.graphs._generator_graph import build_generator_graph, generates_tokens, generates_values
from statewise.export.graphs._graph_builder import IR_VERSION, OPSET, GraphBuilder
from statewise.export.graphs._read_graph import build_read_graph, output_width
from statewise.export.graphs._tensor_names import (
    EMITTED,
    INPUT,
    LENGTHS,
    NOISE,
    OUTPUT,
    REMAINING,
    STATE,
    STATE_OUT,
    STOP,
    TEMPERATURE,
    TOP_K,
    layer_name,
)
from statewise.export.graphs._weight_packing import recurrent_operator, unpack_initial, unpack_layer
from statewise.export.graphs._weight_storage import FLOAT16_SUFFIX, Weights, store_as

__all__ = [
    "EMITTED",
    "FLOAT16_SUFFIX",
    "INPUT",
    "IR_VERSION",
    "LENGTHS",
    "NOISE",
    "OPSET",
    "OUTPUT",
    "REMAINING",
    "STATE",
    "STATE_OUT",
    "STOP",
    "TEMPERATURE",
    "TOP_K",
    "GraphBuilder",
    "Weights",
    "build_encoder_graph",
    "build_generator_graph",
    "build_read_graph",
    "generates_tokens",
    "generates_values",
    "layer_name",
    "output_width",
    "recurrent_operator",
    "store_as",
    "unpack_initial",
    "unpack_layer",
]

"""Builds ONNX graphs from networks of statewise.models; reads no file, writes none and runs nothing."""

from statewise.export.graphs._generator_graph import (
    EMITTED,
    NOISE,
    REMAINING,
    STOP,
    TEMPERATURE,
    TOP_K,
    build_write_graph,
    generates_tokens,
    generates_values,
)
from statewise.export.graphs._graph_builder import IR_VERSION, OPSET, GraphBuilder
from statewise.export.graphs._read_graph import (
    INPUT,
    LENGTHS,
    OUTPUT,
    STATE,
    STATE_OUT,
    build_encode_graph,
    build_read_graph,
    layer_name,
    output_width,
)
from statewise.export.graphs._weight_packing import unpack_layer
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
    "build_encode_graph",
    "build_read_graph",
    "build_write_graph",
    "generates_tokens",
    "generates_values",
    "layer_name",
    "output_width",
    "store_as",
    "unpack_layer",
]

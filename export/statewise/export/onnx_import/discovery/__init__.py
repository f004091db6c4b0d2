"""Finds states, roles and axes in a foreign graph by its structure and by runs; never changes a graph."""

from statewise.export.onnx_import.discovery._axis_options import TIME_NAMES, AxisChoice, axis_choices
from statewise.export.onnx_import.discovery._data_flow import (
    MOVING_OPERATORS,
    STATE_INPUTS,
    DataFlow,
    node_title,
    read_names,
    reads_forwards,
)
from statewise.export.onnx_import.discovery._graph_axes import AxesError, TrialSizes, complete_axes
from statewise.export.onnx_import.discovery._graph_tensor import GraphAxes, GraphTensor, TensorAxes
from statewise.export.onnx_import.discovery._import_options import ImportOptions
from statewise.export.onnx_import.discovery._original_graph import OriginalGraph, first_line
from statewise.export.onnx_import.discovery._tensor_roles import TensorRoles, find_roles

__all__ = [
    "MOVING_OPERATORS",
    "STATE_INPUTS",
    "TIME_NAMES",
    "AxesError",
    "AxisChoice",
    "DataFlow",
    "GraphAxes",
    "GraphTensor",
    "ImportOptions",
    "OriginalGraph",
    "TensorAxes",
    "TensorRoles",
    "TrialSizes",
    "axis_choices",
    "complete_axes",
    "find_roles",
    "first_line",
    "node_title",
    "read_names",
    "reads_forwards",
]

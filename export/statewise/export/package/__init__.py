"""Reads model packages and derives their metadata from checkpoints; never runs a graph."""

from statewise.export.package._graph_file import (
    ENCODER_GRAPH,
    GENERATOR_GRAPH,
    READ_GRAPH,
    GraphFile,
    all_tensors,
    check_graph,
    read_graph_file,
)
from statewise.export.package._metadata import NETWORK_KEY, model_spec, network_json
from statewise.export.package._package import (
    MODEL_TOML,
    Package,
    declares_all_beside_graph,
    read_package,
)
from statewise.export.package._signatures import metadata_problems

__all__ = [
    "ENCODER_GRAPH",
    "GENERATOR_GRAPH",
    "MODEL_TOML",
    "NETWORK_KEY",
    "READ_GRAPH",
    "GraphFile",
    "Package",
    "all_tensors",
    "check_graph",
    "declares_all_beside_graph",
    "metadata_problems",
    "model_spec",
    "network_json",
    "read_graph_file",
    "read_package",
]

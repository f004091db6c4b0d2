"""Holds model packages: reads their files, writes their metadata, compares both; never runs a graph."""

from statewise.export.package._metadata import NETWORK_KEY, model_spec, network_json
from statewise.export.package._package import (
    ENCODE_GRAPH,
    MODEL_TOML,
    READ_GRAPH,
    WRITE_GRAPH,
    GraphFile,
    Package,
    check_graph,
    metadata_problems,
    read_graph_file,
    read_package,
)

__all__ = [
    "ENCODE_GRAPH",
    "MODEL_TOML",
    "NETWORK_KEY",
    "READ_GRAPH",
    "WRITE_GRAPH",
    "GraphFile",
    "Package",
    "check_graph",
    "metadata_problems",
    "model_spec",
    "network_json",
    "read_graph_file",
    "read_package",
]

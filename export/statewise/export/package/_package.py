"""Reads a package: its graphs and the metadata that describes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from statewise.export.base import PackageError
from statewise.export.package._graph_file import (
    ENCODER_GRAPH,
    GENERATOR_GRAPH,
    READ_GRAPH,
    GraphFile,
    read_graph_file,
)
from statewise.export.package._metadata import NETWORK_KEY, network_spec
from statewise.models import NetworkSpec
from statewise.wire import METADATA_KEY, MetadataError, ModelSpec

MODEL_TOML = "model.toml"


@dataclass(frozen=True)
class Package:
    """The graphs of a model version and their metadata.

    Attributes:
        path: The path it was read from: a version folder or a single .onnx file.
        files: By name: model.onnx, and generate.onnx and encode.onnx where the package has them.
        spec: Inputs, outputs and states of the graphs.
        network: The NumPy network behind the graphs; None where the file does not name it.
        optimisation: The level of OPTIMISATION_LEVELS at which onnxruntime loads the graphs.
    """

    path: Path
    files: Mapping[str, GraphFile]
    spec: ModelSpec
    network: NetworkSpec | None
    optimisation: str = "all"

    @property
    def size_bytes(self) -> int:
        """Of all graphs together."""
        return sum(len(file.content) for file in self.files.values())


def declares_all_beside_graph(path: Path) -> bool:
    """Returns whether a folder's graph has no metadata, and a model.toml declares the graph's state.

    Raises:
        PackageError: as of `read_package`.
    """
    if not (path.is_dir() and (path / MODEL_TOML).is_file()):
        return False
    model = read_graph_file(path / READ_GRAPH, package=path, weights_outside=True).model
    return all(entry.key != METADATA_KEY for entry in model.metadata_props)


def read_package(path: Path | str, *, optimisation: str = "all") -> Package:
    """Reads `<repository>/<name>/<version>`, or a single .onnx file as the read graph of a package.

    Executes no graph and opens no file outside the package.

    Args:
        path: The folder or file.
        optimisation: As of `Package`.

    Raises:
        PackageError: no such package, no ONNX file, weights outside the file, no metadata, or a graph that
            the metadata promises and the folder lacks.
    """
    path = Path(path)
    files = {READ_GRAPH: read_graph_file(path / READ_GRAPH if path.is_dir() else path, package=path)}
    properties = {entry.key: entry.value for entry in files[READ_GRAPH].model.metadata_props}
    if METADATA_KEY not in properties:
        way = "make a package of it with `statewise import`, or declare it in a model.toml"
        if path.is_dir() and (path / MODEL_TOML).exists():
            way = f"what {MODEL_TOML} declares is tested by `statewise verify` and the server that loads it"
        raise PackageError(path, f"expected metadata under {METADATA_KEY!r}; the file has none: {way}")
    try:
        spec = ModelSpec.from_json(properties[METADATA_KEY])
        network = network_spec(properties[NETWORK_KEY]) if NETWORK_KEY in properties else None
    except (MetadataError, ValueError, TypeError) as error:
        raise PackageError(path, str(error)) from None
    if path.is_dir():
        writes = spec.generate is not None and spec.generate.graph
        for file, declared in ((GENERATOR_GRAPH, writes), (ENCODER_GRAPH, spec.encode is not None)):
            if declared:
                files[file] = read_graph_file(path / file, package=path)
    return Package(path, files, spec, network, optimisation)

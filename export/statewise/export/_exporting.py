"""Exports a checkpoint: builds the graphs and metadata of its package, and publishes them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from statewise.export._publishing import publish
from statewise.export.graphs import (
    Weights,
    build_encoder_graph,
    build_generator_graph,
    build_read_graph,
    store_as,
)
from statewise.export.package import (
    ENCODER_GRAPH,
    GENERATOR_GRAPH,
    NETWORK_KEY,
    READ_GRAPH,
    GraphFile,
    Package,
    model_spec,
    network_json,
)
from statewise.export.verification import ReadGraphRunner, draw_batch, relative_difference, run_batch
from statewise.models import Checkpoint, load_checkpoint
from statewise.wire import METADATA_KEY, ModelSpec


def export_checkpoint(
    checkpoint: Checkpoint | Path | str,
    repository: Path | str,
    *,
    name: str | None = None,
    version: int | None = None,
    weights: Weights | str = Weights.FLOAT32,
) -> Path:
    """Writes a checkpoint as a model package that statewise.service serves.

    Args:
        checkpoint: A checkpoint, or the folder that training wrote.
        repository: Folder of models; made where it does not exist.
        name: Name of the model; default: the recipe's.
        version: At least 1; default: one more than the highest published version.
        weights: How the package stores weights. float16 halves the files. int8 quarters the read graph, makes
            rows depend on each other, and omits the generator graph. The package's notes name the loss of
            accuracy.

    Returns:
        The folder of the new version.

    Raises:
        VersionExists: the version is published already.
        UnsupportedNetwork: a weight too large for float16.
        ExportError: a name or version that no repository can hold.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(Path(checkpoint))
    name = checkpoint.recipe if name is None else name
    origin = {
        "recipe": checkpoint.recipe,
        "seed": str(checkpoint.seed),
        **{key: f"{value:.6g}" for key, value in checkpoint.metrics.items()},
    }
    files = package_files(checkpoint, name, origin, weights=Weights(weights))
    return publish(repository, name, files, version=version)


def package_files(
    checkpoint: Checkpoint, name: str, origin: Mapping[str, str], *, weights: Weights = Weights.FLOAT32
) -> dict[str, bytes]:
    """Makes the files of a checkpoint's package, by name.

    Args:
        checkpoint: The network to export.
        name: Name of the model.
        origin: Notes of where the model comes from.
        weights: How the package stores weights.

    Raises:
        UnsupportedNetwork: a weight too large for float16.
    """
    network, normalisation = checkpoint.network, checkpoint.normalisation
    spec = model_spec(checkpoint, origin)
    doc = f"{name}: a {network.spec.cell} network; {', '.join(f'{k} {v}' for k, v in origin.items())}"
    graphs = {READ_GRAPH: build_read_graph(network, normalisation, doc=doc, metadata={})}
    if spec.generate is not None and spec.generate.graph:
        graphs[GENERATOR_GRAPH] = build_generator_graph(network, normalisation, doc=doc)
    if network.encoder is not None:
        graphs[ENCODER_GRAPH] = build_encoder_graph(network.encoder, doc=doc)
    metadata = {NETWORK_KEY: network_json(network.spec)}
    if weights is not Weights.FLOAT32:
        float32_graphs = graphs
        graphs = {file: store_as(graph, weights) for file, graph in float32_graphs.items()}
        if weights is Weights.INT8:
            # Rounding differs from graph to graph, so generation has to use the read graph too.
            graphs.pop(GENERATOR_GRAPH, None)
            if spec.generate is not None:
                spec = replace(spec, generate=replace(spec.generate, graph=False))
            metadata = {}
        costs = _storage_notes(checkpoint, spec, float32_graphs, graphs, weights)
        spec = replace(spec, notes={**spec.notes, **costs})
    helper.set_model_props(graphs[READ_GRAPH], {METADATA_KEY: spec.to_json(), **metadata})
    return {file: graph.SerializeToString(deterministic=True) for file, graph in graphs.items()}


def _storage_notes(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    float32_graphs: Mapping[str, onnx.ModelProto],
    stored: Mapping[str, onnx.ModelProto],
    weights: Weights,
) -> dict[str, str]:
    """Notes of the outputs' largest error, relative to the largest output, and of the size of the files."""
    batch = draw_batch(spec, checkpoint, np.random.default_rng(0))
    content = stored[READ_GRAPH].SerializeToString()
    package = Package(Path(READ_GRAPH), {READ_GRAPH: GraphFile(content, stored[READ_GRAPH])}, spec, None)
    x = batch.x if spec.inputs[0].per_step else batch.x[None]
    expected, _ = checkpoint.predict(x, batch.lengths, batch.state[0] if batch.state else None)
    found = run_batch(ReadGraphRunner(package), batch)
    difference = relative_difference(batch.valid(0, expected), batch.valid(0, found.outputs[0]))
    before, after = (
        sum(graph.ByteSize() for graph in graphs.values()) for graphs in (float32_graphs, stored)
    )
    return {
        "weights": weights,
        "weights_error": f"{difference:.2g}",
        "weights_size": f"{after:,} bytes, {after / before:.0%} of float32",
    }

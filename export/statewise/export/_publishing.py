"""Publishing: a checkpoint becomes the graphs in `<repository>/<name>/<version>/`.

A version appears whole or not at all: it is written in a dot-folder beside its place, which servers skip, and
renamed. A published version is never written to again.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from statewise.export.base import ExportError, VersionExists
from statewise.export.graphs import Weights, build_encode_graph, build_read_graph, build_write_graph, store_as
from statewise.export.onnx_import import read_foreign
from statewise.export.package import (
    ENCODE_GRAPH,
    NETWORK_KEY,
    READ_GRAPH,
    WRITE_GRAPH,
    GraphFile,
    Package,
    model_spec,
    network_json,
)
from statewise.export.torch_import import read_torch
from statewise.export.verification import ReadGraph, difference, draw_sample, run
from statewise.models import Checkpoint, load_checkpoint
from statewise.wire import METADATA_KEY, ModelSpec

MAX_VERSION = 2**32 - 1

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


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
        name: Of the model; default: the recipe's.
        version: At least 1; default: one more than the highest published.
        weights: How weights are stored. float16 halves the files; int8 quarters the read graph, makes rows
            depend on each other, and leaves the write graph out. The package's notes say what it costs.

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


def import_torch(
    file: Path | str,
    repository: Path | str,
    *,
    name: str | None = None,
    version: int | None = None,
    description: Path | str | None = None,
) -> Path:
    """Writes PyTorch's weights as a model package; PyTorch is not needed.

    Args:
        file: A .safetensors file with an nn.RNN, nn.LSTM or nn.GRU, and an nn.Linear behind it or none.
        repository: As of `export_checkpoint`.
        name: Of the model; default: the file's name without suffix.
        version: As of `export_checkpoint`.
        description: TOML that says what names and shapes do not; default: FILE.toml beside the file, if any.

    Returns:
        The folder of the new version.

    Raises:
        SourceError: a file cannot be read, or does not say enough; naming what was expected and found.
        UnsupportedNetwork: an LSTM with projections.
        VersionExists: the version is published already.
        ExportError: a name or version that no repository can hold.
    """
    file = Path(file)
    checkpoint = read_torch(file, None if description is None else Path(description))
    name = file.stem if name is None else name
    origin = {"imported_from": file.name}
    return publish(repository, name, package_files(checkpoint, name, origin), version=version)


def import_onnx(
    file: Path | str,
    repository: Path | str,
    *,
    name: str | None = None,
    version: int | None = None,
    state: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
    expose_state: bool = False,
) -> Path:
    """Writes somebody else's ONNX file as a model package.

    Args:
        file: The .onnx file, weights inside.
        repository: As of `export_checkpoint`.
        name: Of the model; default: the file's name without suffix.
        version: As of `export_checkpoint`.
        state: State outputs by state input, where the graph does not say which.
        constants: Numbers for inputs that are the same for every row, step and session.
        expose_state: Gives recurrent operators without state inputs and outputs some.

    Returns:
        The folder of the new version; its model.toml says what was found, and why.

    Raises:
        PackageError: the file is no sound ONNX file.
        SourceError: the graph is not understood; naming what was seen.
        VersionExists: the version is published already.
        ExportError: a name or version that no repository can hold.
    """
    file = Path(file)
    foreign = read_foreign(file, state=state or {}, constants=constants or {}, expose=expose_state)
    return publish(repository, file.stem if name is None else name, foreign.files(), version=version)


def _check_name(name: str, version: int | None) -> None:
    if not _NAME.fullmatch(name):
        raise ExportError(
            f"name: expected 1 to 128 characters of A-Z a-z 0-9 . _ - not beginning with a dot; got {name!r}"
        )
    if version is not None and not 1 <= version <= MAX_VERSION:
        raise ExportError(f"version: expected 1 to {MAX_VERSION}; got {version}")


def package_files(
    checkpoint: Checkpoint, name: str, origin: Mapping[str, str], *, weights: Weights = Weights.FLOAT32
) -> dict[str, bytes]:
    """The files of a checkpoint's package, by name; origin says where it comes from."""
    network, normalisation = checkpoint.network, checkpoint.normalisation
    spec = model_spec(checkpoint, origin)
    doc = f"{name}: a {network.spec.cell} network; {', '.join(f'{k} {v}' for k, v in origin.items())}"
    graphs = {READ_GRAPH: build_read_graph(network, normalisation, doc=doc, metadata={})}
    if spec.generate is not None and spec.generate.graph:
        graphs[WRITE_GRAPH] = build_write_graph(network, normalisation, doc=doc)
    if network.encoder is not None:
        graphs[ENCODE_GRAPH] = build_encode_graph(network.encoder, doc=doc)
    metadata = {NETWORK_KEY: network_json(network.spec)}
    if weights is not Weights.FLOAT32:
        whole = graphs
        graphs = {file: store_as(graph, weights) for file, graph in whole.items()}
        if weights is Weights.INT8:
            # Another graph's rounding would be another model's: generation goes through the read graph.
            graphs.pop(WRITE_GRAPH, None)
            if spec.generate is not None:
                spec = replace(spec, generate=replace(spec.generate, graph=False))
            metadata = {}
        spec = replace(spec, notes={**spec.notes, **_costs(checkpoint, spec, whole, graphs, weights)})
    helper.set_model_props(graphs[READ_GRAPH], {METADATA_KEY: spec.to_json(), **metadata})
    return {file: graph.SerializeToString(deterministic=True) for file, graph in graphs.items()}


def _costs(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    whole: Mapping[str, onnx.ModelProto],
    stored: Mapping[str, onnx.ModelProto],
    weights: Weights,
) -> dict[str, str]:
    """For the notes: how far outputs are off, relative to the largest one, and how large the files are."""
    sample = draw_sample(spec, checkpoint, np.random.default_rng(0))
    content = stored[READ_GRAPH].SerializeToString()
    package = Package(Path(READ_GRAPH), {READ_GRAPH: GraphFile(content, stored[READ_GRAPH])}, spec, None)
    x = sample.x if sample.per_step_input else sample.x[None]
    expected, _ = checkpoint.predict(x, sample.lengths, sample.state)
    found = run(ReadGraph(package), sample)
    before, after = (sum(graph.ByteSize() for graph in graphs.values()) for graphs in (whole, stored))
    return {
        "weights": weights,
        "weights_error": f"{difference(sample.valid(expected), sample.valid(found.y)):.2g}",
        "weights_size": f"{after:,} bytes, {after / before:.0%} of float32",
    }


def publish(
    repository: Path | str, name: str, files: Mapping[str, bytes], *, version: int | None = None
) -> Path:
    """Publishes a version of these files.

    Args:
        repository: Folder of models; made where it does not exist.
        name: Of the model.
        files: Contents by name.
        version: Default: one more than the highest published, also when another exporter takes a number
            in between.

    Raises:
        VersionExists: the version asked for is published already.
        ExportError: a name or version that no repository can hold.
    """
    _check_name(name, version)
    model_folder = Path(repository) / name
    model_folder.mkdir(parents=True, exist_ok=True)
    if version is not None and (model_folder / str(version)).exists():
        raise VersionExists(model_folder / str(version))
    with tempfile.TemporaryDirectory(prefix=".publishing-", dir=model_folder) as workshop:
        # One folder further in, because the temporary one is private to this user.
        folder = Path(workshop) / "version"
        folder.mkdir()
        for file, content in files.items():
            _write(folder / file, content)
        while True:
            target = model_folder / str(version if version is not None else highest_version(model_folder) + 1)
            try:
                # Never replaces a version: renaming onto a folder that is not empty fails.
                os.rename(folder, target)
            except OSError:
                if not target.exists():
                    raise
                if version is not None:
                    raise VersionExists(target) from None
            else:
                return target


def highest_version(model_folder: Path) -> int:
    """The highest version number among the folder's entries; 0 where there is none."""
    versions = [int(entry.name) for entry in model_folder.iterdir() if entry.name.isdecimal()]
    return max(versions, default=0)


def _write(path: Path, content: bytes) -> None:
    # A version that is visible must be whole after a power cut too.
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

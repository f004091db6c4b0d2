"""Reads a foreign graph as the model.toml beside it declares it, in the form of packages, for verification.

The server runs such a graph as it is; here the graph is wrapped as an import wraps it, so that the same
checks apply.
"""

from pathlib import Path

import numpy as np

from statewise.export.base import Array, PackageError
from statewise.export.onnx_import._imported_model import ImportedModel, find_model
from statewise.export.onnx_import._initial_files import read_folder_state
from statewise.export.onnx_import.discovery import ImportOptions
from statewise.export.package import MODEL_TOML, READ_GRAPH
from statewise.wire import (
    BATCH,
    TIME,
    AxisWords,
    MetadataError,
    ModelDeclaration,
    StateDeclaration,
    TensorDeclaration,
)

_MOST_BYTES = 2**24


def read_declared(folder: Path, optimisation: str) -> ImportedModel:
    """Reads a version folder whose graph has no metadata.

    Args:
        folder: With model.onnx and model.toml.
        optimisation: A level of OPTIMISATION_LEVELS, for onnxruntime.

    Raises:
        PackageError: a declaration that cannot be read, or has entries that only the server carries out.
        SourceError: the graph does not run as declared.
    """
    declaration = _declaration(folder)
    if declaration.encode is not None or declaration.generate is not None:
        raise PackageError(
            folder,
            "encode and generate: the server carries this out; it tests the model when it loads the folder",
        )
    file = folder / READ_GRAPH
    if not file.resolve().is_relative_to(folder.resolve()):
        raise PackageError(folder, f"expected {READ_GRAPH} in the folder; it is a link to {file.resolve()}")
    return find_model(file, _options(folder, declaration), optimisation, frees_rows=False)


def _declaration(folder: Path) -> ModelDeclaration:
    try:
        with (folder / MODEL_TOML).open("rb") as stream:
            content = stream.read(_MOST_BYTES)
        return ModelDeclaration.from_toml(content.decode())
    except (OSError, UnicodeDecodeError, MetadataError) as error:
        raise PackageError(folder, f"{MODEL_TOML}: {error}") from None


def _options(folder: Path, declaration: ModelDeclaration) -> ImportOptions:
    axes: dict[str, AxisWords] = {}
    for tensor in (*declaration.inputs, *declaration.outputs):
        if tensor.default is None and (words := _tensor_axes(tensor)) is not None:
            axes[tensor.name] = words
    for pair in declaration.state:
        if (words := _state_axes(pair)) is not None:
            axes[pair.input] = words
    return ImportOptions(
        state={pair.input: pair.output for pair in declaration.state},
        inputs=tuple(tensor.name for tensor in declaration.inputs if tensor.default is None),
        outputs=tuple(tensor.name for tensor in declaration.outputs),
        constants={
            tensor.name: tensor.default for tensor in declaration.inputs if tensor.default is not None
        },
        axes=axes,
        initial={
            pair.input: _initial(folder, pair) for pair in declaration.state if pair.initial is not None
        },
        hops={tensor.name: tensor.hop for tensor in declaration.inputs if tensor.hop is not None},
        contexts={tensor.name: tensor.context for tensor in declaration.inputs if tensor.context},
        stateless=not declaration.state and not any(map(_has_context, declaration.inputs)),
    )


def _initial(folder: Path, pair: StateDeclaration) -> Array:
    if isinstance(pair.initial, str):
        return read_folder_state(folder, pair.input, pair.initial)
    return np.asarray(pair.initial)


def _has_context(tensor: TensorDeclaration) -> bool:
    return bool(tensor.context) or tensor.hop is not None


def _tensor_axes(tensor: TensorDeclaration) -> AxisWords | None:
    if tensor.axes is not None or tensor.shape is None:
        return tensor.axes
    return (*((BATCH,) if tensor.per_step is False else (TIME, BATCH)), *tensor.shape)


def _state_axes(pair: StateDeclaration) -> AxisWords | None:
    if pair.axes is not None or pair.shape is None:
        return pair.axes
    axis = pair.batch_axis or 0
    return (*pair.shape[:axis], BATCH, *pair.shape[axis:])

"""Imports weights of PyTorch and ONNX files from elsewhere, and publishes them as packages."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from statewise.export._exporting import package_files
from statewise.export._isolating import with_some_optimisation
from statewise.export._publishing import publish
from statewise.export.base import Array, SourceError, is_safetensors, refuse_other_formats
from statewise.export.onnx_import import ImportOptions, read_initial_state, read_onnx
from statewise.export.package import MODEL_TOML
from statewise.export.torch_import import read_torch


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
        file: A .safetensors file with an nn.RNN, nn.LSTM, nn.GRU or one of their cells, and optionally an
            nn.Linear after it.
        repository: As of `export_checkpoint`.
        name: Name of the model; default: the file's name without suffix.
        version: As of `export_checkpoint`.
        description: TOML with the settings that names and shapes leave open; default: FILE.toml beside the
            file, if any.

    Returns:
        The folder of the new version; the comments of its model.toml say what was taken.

    Raises:
        SourceError: a file cannot be read, or leaves something open; naming what was expected and found.
        UnsupportedNetwork: an LSTM with projections.
        VersionExists: the version is published already.
        ExportError: a name or version that no repository can hold.
    """
    file = Path(file)
    refuse_other_formats(file)
    checkpoint, reasons = read_torch(file, None if description is None else Path(description))
    name = file.stem if name is None else name
    files = package_files(checkpoint, name, {"imported_from": file.name})
    files[MODEL_TOML] = "".join(f"# {reason}\n" for reason in reasons).encode()
    return publish(repository, name, files, version=version)


def import_onnx(
    file: Path | str,
    repository: Path | str,
    *,
    name: str | None = None,
    version: int | None = None,
    state: Mapping[str, str] | None = None,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    constants: Mapping[str, float] | None = None,
    sizes: Mapping[str, int] | None = None,
    axes: Mapping[str, Sequence[str | int]] | None = None,
    initial: Mapping[str, float | Path | str | Array] | None = None,
    hops: Mapping[str, int] | None = None,
    expose_state: bool = False,
    stateless: bool = False,
) -> Path:
    """Writes an ONNX file from elsewhere as a model package.

    A child process compares the package with the graph; nothing is published that does not agree.

    Args:
        file: The .onnx file; weights may lie in files of its folder.
        repository: As of `export_checkpoint`.
        name: Name of the model; default: the file's name without suffix.
        version: As of `export_checkpoint`.
        state: Names of state outputs by those of state inputs, where the graph leaves a choice.
        inputs: Names of inputs that are data, not state.
        outputs: Names of the outputs to publish; default: all that are no state.
        constants: Values of inputs that are the same for every row, step and session.
        sizes: Numbers for free sizes other than batch and time, by the name of the size, or by INPUT.AXIS.
        axes: For an input, output or state: "batch", "time" or a size for each axis.
        initial: Initial states by the names of state inputs: a number, an array or a .npy file.
        hops: Of windows that overlap: how many values are new, along time in `axes`, else the last axis.
        expose_state: Adds state inputs and outputs to recurrent operators that have none.
        stateless: Publishes a model for Predict alone; states begin anew with every sequence.

    Returns:
        The folder of the new version; its model.toml records the findings and their reasons.

    Raises:
        PackageError: the file is no sound ONNX file, or onnxruntime crashes on it.
        SourceError: roles or axes of the graph's inputs and outputs stay open; naming what decides.
        VersionExists, ExportError: as of `export_checkpoint`.
    """
    file = _other_than_weights(Path(file))
    options = ImportOptions(
        state=dict(state or {}),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        constants=dict(constants or {}),
        sizes=dict(sizes or {}),
        axes={key: tuple(words) for key, words in (axes or {}).items()},
        initial={key: _initial(file, key, value) for key, value in (initial or {}).items()},
        hops=dict(hops or {}),
        expose_state=expose_state,
        stateless=stateless,
    )
    files = with_some_optimisation(read_onnx, file, options)
    return publish(repository, file.stem if name is None else name, files, version=version)


def _other_than_weights(file: Path) -> Path:
    """Returns the file; raises SourceError for known formats other than ONNX."""
    refuse_other_formats(file)
    if is_safetensors(file):
        raise SourceError(file, "expected ONNX; this is safetensors: rename it to end with .safetensors")
    return file


def _initial(file: Path, name: str, value: float | Path | str | Array) -> float | Array:
    """Returns an initial state: a number or an array, read from a .npy file where a path is given."""
    return read_initial_state(file, name, value) if isinstance(value, Path | str) else value

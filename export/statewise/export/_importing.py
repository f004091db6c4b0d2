"""Imports weights of PyTorch and ONNX files from elsewhere, and publishes them as packages."""

from collections.abc import Mapping
from pathlib import Path

from statewise.export._exporting import package_files
from statewise.export._publishing import publish
from statewise.export.onnx_import import read_onnx
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
        file: A .safetensors file with an nn.RNN, nn.LSTM or nn.GRU, and optionally an nn.Linear after it.
        repository: As of `export_checkpoint`.
        name: Of the model; default: the file's name without suffix.
        version: As of `export_checkpoint`.
        description: TOML with the settings that names and shapes leave open; default: FILE.toml beside the
            file, if any.

    Returns:
        The folder of the new version.

    Raises:
        SourceError: a file cannot be read, or leaves something open; naming what was expected and found.
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
    """Writes an ONNX file from elsewhere as a model package.

    Args:
        file: The .onnx file, weights inside.
        repository: As of `export_checkpoint`.
        name: Of the model; default: the file's name without suffix.
        version: As of `export_checkpoint`.
        state: Names of state outputs by those of state inputs, where the graph leaves a choice.
        constants: Values of inputs that are the same for every row, step and session.
        expose_state: Adds state inputs and outputs to recurrent operators that have none.

    Returns:
        The folder of the new version; its model.toml records the findings and their reasons.

    Raises:
        PackageError: the file is no sound ONNX file.
        SourceError: roles or axes of the graph's inputs and outputs stay open; naming what was found.
        VersionExists: the version is published already.
        ExportError: a name or version that no repository can hold.
    """
    file = Path(file)
    imported = read_onnx(file, state=state or {}, constants=constants or {}, expose=expose_state)
    return publish(repository, file.stem if name is None else name, imported.files(), version=version)

"""Publishing: a checkpoint becomes `<repository>/<name>/<version>/model.onnx`.

A version appears whole or not at all: it is written in a dot-folder beside its place, which servers skip, and
renamed. A published version is never written to again.
"""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from statewise.export._errors import ExportError, VersionExists
from statewise.export._metadata import METADATA_KEY, NETWORK_KEY, model_spec, network_json
from statewise.export._package import READ_GRAPH
from statewise.export._read_graph import build_read_graph
from statewise.models import Checkpoint, load_checkpoint

MAX_VERSION = 2**32 - 1

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def export_checkpoint(
    checkpoint: Checkpoint | Path | str,
    repository: Path | str,
    *,
    name: str | None = None,
    version: int | None = None,
) -> Path:
    """Writes a checkpoint as a model package that statewise.service serves.

    Args:
        checkpoint: A checkpoint, or the folder that training wrote.
        repository: Folder of models; made where it does not exist.
        name: Of the model; default: the recipe's.
        version: At least 1; default: one more than the highest published.

    Returns:
        The folder of the new version.

    Raises:
        VersionExists: the version is published already.
        UnsupportedNetwork: the network has no read graph.
        ExportError: a name or version that no repository can hold.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(Path(checkpoint))
    name = checkpoint.recipe if name is None else name
    if not _NAME.fullmatch(name):
        raise ExportError(
            f"name: expected 1 to 128 characters of A-Z a-z 0-9 . _ - not beginning with a dot; got {name!r}"
        )
    if version is not None and not 1 <= version <= MAX_VERSION:
        raise ExportError(f"version: expected 1 to {MAX_VERSION}; got {version}")

    model = build_read_graph(
        checkpoint.network,
        checkpoint.normalisation,
        doc=f"{name}: a {checkpoint.network.spec.cell} network trained by the recipe {checkpoint.recipe}",
        metadata={
            METADATA_KEY: model_spec(checkpoint).to_json(),
            NETWORK_KEY: network_json(checkpoint.network.spec),
        },
    )
    content = model.SerializeToString(deterministic=True)
    return publish(
        Path(repository) / name, lambda folder: _write(folder / READ_GRAPH, content), version=version
    )


def publish(model_folder: Path, write: Callable[[Path], None], *, version: int | None = None) -> Path:
    """Publishes what `write` puts into the folder it is given.

    Args:
        model_folder: `<repository>/<name>`; made where it does not exist.
        write: Writes the files of the version.
        version: Default: one more than the highest published, also when another exporter takes a number
            in between.

    Raises:
        VersionExists: the version asked for is published already.
    """
    model_folder.mkdir(parents=True, exist_ok=True)
    if version is not None and (model_folder / str(version)).exists():
        raise VersionExists(model_folder / str(version))
    with tempfile.TemporaryDirectory(prefix=".publishing-", dir=model_folder) as workshop:
        # One folder further in, because the temporary one is private to this user.
        folder = Path(workshop) / "version"
        folder.mkdir()
        write(folder)
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

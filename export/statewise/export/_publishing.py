"""Publishes files as a model version, `<repository>/<name>/<version>/`.

A version appears whole or not at all: it is written in a dot-folder beside its final path, which servers
skip, and renamed. A published version is never written to again.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from statewise.export.base import ExportError, VersionExists

MAX_VERSION = 2**32 - 1

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def publish(
    repository: Path | str, name: str, files: Mapping[str, bytes], *, version: int | None = None
) -> Path:
    """Publishes a version of these files and returns its folder.

    Args:
        repository: Folder of models; made where it does not exist.
        name: Name of the model.
        files: Contents by name.
        version: Default: one more than the highest published version. Other exporters may publish to the same
            model meanwhile.

    Raises:
        VersionExists: the requested version is published already.
        ExportError: a name or version that no repository can hold.
    """
    _check_name(name, version)
    model_folder = Path(repository) / name
    model_folder.mkdir(parents=True, exist_ok=True)
    if version is not None and (model_folder / str(version)).exists():
        raise VersionExists(model_folder / str(version))
    with tempfile.TemporaryDirectory(prefix=".publishing-", dir=model_folder) as workshop:
        # A folder within, because only this user may read the temporary one.
        folder = Path(workshop) / "version"
        folder.mkdir()
        for file, content in files.items():
            _write(folder / file, content)
        while True:
            number = version if version is not None else _highest_version(model_folder) + 1
            target = model_folder / str(number)
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


def _check_name(name: str, version: int | None) -> None:
    if not _NAME.fullmatch(name):
        raise ExportError(
            f"name: expected 1 to 128 characters of A-Z a-z 0-9 . _ - not beginning with a dot; got {name!r}"
        )
    if version is not None and not 1 <= version <= MAX_VERSION:
        raise ExportError(f"version: expected 1 to {MAX_VERSION}; got {version}")


def _highest_version(model_folder: Path) -> int:
    """Returns the highest version number among the folder's entries; 0 where there is none."""
    versions = [int(entry.name) for entry in model_folder.iterdir() if entry.name.isdecimal()]
    return max(versions, default=0)


def _write(path: Path, content: bytes) -> None:
    # A visible version has to be whole after a power cut too.
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

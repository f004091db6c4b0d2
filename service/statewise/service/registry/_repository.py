"""Lists what a repository holds: its version folders, and the default version that each model declares.

Opens no graph. A scan reads names, sizes and times of files only: cheap enough for every few seconds.
Names that begin with a dot are skipped: a version is published by renaming its finished folder.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from statewise.service.base import ModelKey, shortened
from statewise.service.packages import read_text
from statewise.wire import place_in_toml, read_toml

_MODEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
"""The names of models, as the contract has them."""
_GREATEST_VERSION = 2**32 - 1
"""Versions are uint32 in messages."""

FolderSignature = tuple[tuple[str, int, int], ...]
"""Name, size in bytes and modification time in ns of each file; another signature: the folder was changed."""


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """A version folder.

    Attributes:
        name: Name of the model's folder.
        version: At least 1.
        path: The folder.
        signature: Its files when it was scanned.
    """

    name: str
    version: int
    path: Path
    signature: FolderSignature

    @property
    def key(self) -> ModelKey:
        """Name and version."""
        return self.name, self.version


@dataclass(frozen=True, slots=True)
class RepositoryScan:
    """A repository at one moment.

    Attributes:
        versions: By name and version, sorted.
        declared: By model: the default version that its model.toml names.
        mistakes: By model: what is wrong with its model.toml or with the name of a version.
        misnamed: Folders that are no models because of their names.
    """

    versions: dict[ModelKey, VersionFolder]
    declared: dict[str, int]
    mistakes: dict[str, str]
    misnamed: frozenset[str] = frozenset()


def scan_repository(root: Path) -> RepositoryScan:
    """Lists a repository. Files that vanish meanwhile are left out. A missing root holds nothing."""
    versions: dict[ModelKey, VersionFolder] = {}
    declared: dict[str, int] = {}
    mistakes: dict[str, str] = {}
    misnamed: set[str] = set()
    for model_path in _visible_folders(root):
        if not _MODEL_NAME.fullmatch(model_path.name):
            misnamed.add(model_path.name)
            continue
        for path in _visible_folders(model_path):
            version = _version_of(path)
            if version > _GREATEST_VERSION:
                mistakes[model_path.name] = (
                    f"{model_path.name}/{version}: expected a version up to {_GREATEST_VERSION}"
                )
            elif version:
                folder = VersionFolder(model_path.name, version, path, _signature(path))
                versions[folder.key] = folder
        default = _declared_default(model_path / "model.toml")
        if isinstance(default, str):
            mistakes[model_path.name] = shortened(f"{model_path.name}/model.toml: {default}")
        elif default is not None:
            declared[model_path.name] = default
    return RepositoryScan(dict(sorted(versions.items())), declared, mistakes, frozenset(misnamed))


def _declared_default(path: Path) -> int | str | None:
    """Reads the default version; a text: what is wrong with the file; None: no file, or no version in it."""
    try:
        text = read_text(path)
        content = read_toml(text)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
    except ValueError as error:
        return str(error)
    for name in content:
        if name != "default_version":
            return (
                f"{name}: no entry of that name is known; expected default_version{place_in_toml(text, name)}"
            )
    default = content.get("default_version")
    if default is None or (type(default) is int and 0 < default <= _GREATEST_VERSION):  # true is no version
        return default
    place = place_in_toml(text, "default_version")
    return f"default_version: expected a version, a whole number from 1; got {default!r}{place}"


def _visible_folders(folder: Path) -> list[Path]:
    try:
        folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []
    return sorted(folders)


def _version_of(folder: Path) -> int:
    """Returns the folder's version; 0 for a name that is not a whole number from 1, without leading zeros."""
    name = folder.name
    return int(name) if name.isascii() and name.isdecimal() and not name.startswith("0") else 0


def _signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    entries = []
    for path in sorted(folder.rglob("*")):
        try:
            status = path.stat()
        except OSError:
            continue
        if path.is_file():
            entries.append((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
    return tuple(entries)

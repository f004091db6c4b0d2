"""The folder of models, as it stands: which versions there are, and which of them is meant by default.

Only looks; loading is `models.py`. Looking is cheap (names, sizes and times of files), so that it can be done
every few seconds. What begins with a dot is skipped: a version appears by being renamed.
"""

import logging
import tomllib
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

Key = tuple[str, int]
"""Name and version of a model."""


@dataclass(frozen=True, slots=True)
class Found:
    """A version folder.

    Attributes:
        name: The model's folder.
        version: At least 1.
        folder: Where it is.
        signature: Names, sizes and times of its files; another one means that somebody wrote there.
    """

    name: str
    version: int
    folder: Path
    signature: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """A repository at one moment.

    Attributes:
        versions: By name and version.
        declared: The version that a model's model.toml names as the default one.
    """

    versions: dict[Key, Found]
    declared: dict[str, int]


def scan(root: Path) -> Scan:
    """Looks through a repository. What vanishes meanwhile is not there. A missing root holds nothing."""
    versions: dict[Key, Found] = {}
    declared: dict[str, int] = {}
    for model_folder in _visible_folders(root):
        for folder in _visible_folders(model_folder):
            version = _version_of(folder)
            if version:
                found = Found(model_folder.name, version, folder, _signature(folder))
                versions[found.name, version] = found
        default = _declared_default(model_folder / "model.toml")
        if default is not None:
            declared[model_folder.name] = default
    return Scan(dict(sorted(versions.items())), declared)


def _declared_default(path: Path) -> int | None:
    try:
        default = tomllib.loads(path.read_text()).get("default_version")
    except FileNotFoundError:
        return None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _log.error("%s: %s; the highest version is served by default", path, error)
        return None
    if default is None or (isinstance(default, int) and default > 0):
        return default
    _log.error("%s: default_version = %r: expected a version", path, default)
    return None


def _visible_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _version_of(folder: Path) -> int:
    """The folder's version, or 0 where its name is not one as it would be printed."""
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

"""The folder of models, as it stands: which versions there are, and which of them is meant by default.

Only looks; loading is `models.py`. Looking is cheap (names, sizes and times of files), so that it can be done
every few seconds. What begins with a dot is skipped: a version appears by being renamed.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from statewise.service.base import ModelKey


@dataclass(frozen=True, slots=True)
class VersionFolder:
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
        mistakes: What is wrong with a model's model.toml.
    """

    versions: dict[ModelKey, VersionFolder]
    declared: dict[str, int]
    mistakes: dict[str, str]


def scan(root: Path) -> Scan:
    """Looks through a repository. What vanishes meanwhile is not there. A missing root holds nothing."""
    versions: dict[ModelKey, VersionFolder] = {}
    declared: dict[str, int] = {}
    mistakes: dict[str, str] = {}
    for model_folder in _visible_folders(root):
        for folder in _visible_folders(model_folder):
            version = _version_of(folder)
            if version:
                found = VersionFolder(model_folder.name, version, folder, _signature(folder))
                versions[found.name, version] = found
        default = _declared_default(model_folder / "model.toml")
        if isinstance(default, str):
            mistakes[model_folder.name] = f"{model_folder.name}/model.toml: {default}"
        elif default is not None:
            declared[model_folder.name] = default
    return Scan(dict(sorted(versions.items())), declared, mistakes)


def _declared_default(path: Path) -> int | str | None:
    """The version, what is wrong, or None where nothing is said."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    for name in said:
        if name != "default_version":
            return f"{name}: no entry of that name is known; expected default_version"
    default = said.get("default_version")
    if default is None or (type(default) is int and default > 0):  # true is no version
        return default
    return f"default_version: expected a version, a whole number from 1; got {default!r}"


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

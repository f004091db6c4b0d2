"""Defines the errors of exporting, importing and reading packages.

    ExportError
    ├── UnsupportedNetwork    no package can hold the network
    ├── VersionExists         the version is published already
    ├── PackageError          a package or .onnx file cannot be read
    └── SourceError           a file to import cannot be read, or leaves something open

Every message is one line that names the file or folder, what was expected and what was found.
"""

from pathlib import Path


class ExportError(Exception):
    """Root of the errors that statewise.export raises on purpose."""


class UnsupportedNetwork(ExportError):  # noqa: N818 - named after the situation, as the others are
    """No package can hold the network."""


class VersionExists(ExportError):  # noqa: N818 - named after the situation, as the others are
    """The version is published already, and published versions are immutable.

    Attributes:
        path: The existing folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path}: this version exists, and versions are immutable; export under another number"
        )


class PackageError(ExportError):
    """A package, or a single .onnx file, cannot be read.

    Attributes:
        path: The file or folder at fault.
    """

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self._problem = problem
        super().__init__(f"{path}: {problem}")

    def __reduce__(self) -> tuple[type, tuple[Path, str]]:
        return type(self), (self.path, self._problem)


class SourceError(ExportError):
    """A file to import cannot be read, or leaves something open that the import needs.

    Attributes:
        path: The file at fault.
    """

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self._problem = problem
        super().__init__(f"{path}: {problem}")

    def __reduce__(self) -> tuple[type, tuple[Path, str]]:
        return type(self), (self.path, self._problem)
